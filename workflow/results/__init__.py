"""From metrics files to verdicts, tables, figures and the report page; nothing that plans imports this package."""
