"""From metrics files to verdicts, tables, figures and the report page.

Importing this package costs nothing: pandas, seaborn and jinja2 are imported by the modules that need them, and the
planning part of `workflow` reads only `workflow.results.claims`, which is standard library.
"""
