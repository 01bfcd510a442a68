"""A table as CSV, for programs: texts alone, without what only people need."""

from __future__ import annotations

import csv
import io

from workflow.results.tables.model import Table


def csv_table(table: Table) -> str:
    """The heads, then a line for each of the table's."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head.text for head in table.heads)
    writer.writerows([cell.text for cell in line] for line in table.lines)
    return out.getvalue()
