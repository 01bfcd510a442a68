"""A table as CSV, for programs: texts alone, without what only people need."""

from __future__ import annotations

from workflow.results.tables.model import Table


def csv_table(table: Table) -> str:
    """The heads, then a line for each of the table's."""
    import pandas as pd

    lines = [[cell.text for cell in line] for line in table.lines]
    frame = pd.DataFrame(lines, columns=[head.text for head in table.heads], dtype=str)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text
