"""A study's tables as files: CSV (tidy), Markdown (for GitHub) and LaTeX (booktabs).

The same results give the same bytes: nothing here depends on the time, the machine or the order of a directory.
"""

from __future__ import annotations

from pathlib import Path

from dino.files import write_text
from workflow.results.summary import StudyResults
from workflow.results.tables.csv import csv_table
from workflow.results.tables.latex import latex_page
from workflow.results.tables.markdown import markdown_page
from workflow.results.tables.study import study_tables


def write_tables(results: StudyResults, folder: Path) -> list[Path]:
    """Write ``<study>.csv``, ``.md`` and ``.tex`` into ``folder``, beside that of the runs; returns the paths."""
    tables = study_tables(results)
    texts = {"csv": csv_table(tables.records), "md": markdown_page(tables), "tex": latex_page(tables)}
    paths = [folder / f"{tables.name}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths
