"""Tables of a study as CSV (tidy), Markdown (for GitHub, each number links its run) and LaTeX (booktabs).

The same results give the same bytes: nothing here depends on the time, the machine or the order of a directory.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from dino.files import write_text
from workflow.inputs.evaluations import metric_words
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.tables.latex import latex_table
from workflow.results.tables.layout import Grid, grids, is_simple
from workflow.results.words import (
    GRID_LEGEND,
    SYMBOLS,
    Footnotes,
    digits_of,
    facts,
    mark_text,
    mark_titles,
    number,
    ours_text,
    paper_text,
    seeds_missing,
    sentence,
)

CSV_COLUMNS = (
    *("study", "variant", "label", "metric", "unit", "ours", "spread", "error", "seeds", "paper", "difference"),
    *("verdict", "why", "chance", "n", "scale", "data", "run_ids", "runs", "note", "table", "row", "marks"),
)


def write_tables(results: StudyResults, folder: Path, *, runs: Path) -> list[Path]:
    """Write ``<study>.csv``, ``.md`` and ``.tex`` into ``folder``.

    Args:
        results: What to show.
        folder: Where the tables go.
        runs: The folder of run directories, which cells link by relative paths.

    Returns:
        The three paths.
    """
    link = Path(os.path.relpath(runs, folder))
    texts = {
        "csv": csv_table(results, runs=link),
        "md": markdown_table(results, runs=link),
        "tex": latex_table(results),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{results.study.name}.{suffix}")
        write_text(paths[-1], text)
    return paths


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_table(results: StudyResults, *, runs: Path) -> str:
    """One line a variant and metric; empty where there is nothing to say."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in results.rows:
        cells = [cell for _, cell in sorted(row.row.values.items())]
        writer.writerow(
            [
                *(results.study.name, row.name, row.variant.label, row.metric, cells[0].unit if cells else ""),
                *(_decimal(row.row.mean), _decimal(row.spread), _decimal(row.error)),
                " ".join(str(seed) for seed in sorted(row.row.values)),
                "" if row.row.published is None else f"{row.row.published:g}",
                *(_decimal(row.row.difference), row.verdict.text, row.verdict.why, _decimal(row.row.chance)),
                *(cells[0].n if cells and cells[0].n else "", results.scale.name, "; ".join(results.data)),
                " ".join(run.run_id for run in row.runs),
                " ".join(f"{(runs / run.run_id).as_posix()}/" for run in row.runs),
                *(row.variant.note or "", results.study.table or "", _row_ids(row)),
                "; ".join(f"{title}: {mark_text(value)}" for title, value in row.variant.marks.items()),
            ]
        )
    return out.getvalue()


def _row_ids(row: ResultRow) -> str:
    rows = row.variant.row
    return " ".join(map(str, rows if isinstance(rows, list) else [] if rows is None else [rows]))


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown_table(results: StudyResults, *, runs: Path) -> str:
    """The table, its claims and footnotes; a number links its run directory, several seeds link each."""
    study = results.study
    notes = Footnotes()
    lines = [f"# {_md(study.title)} ({_md(study.paper)})", ""]
    if study.description:
        lines += [_md(study.description.strip()), ""]
    known = facts(results)
    lines += [f"> {_md(fact)}" + ("\\" if fact != known[-1] else "") for fact in known]
    lines.append("")
    if is_simple(results):
        lines += [f"{_md(metric_words(study.metrics[0]))}:", "", *_simple_table(results, runs, notes)]
    else:
        lines += [_md(GRID_LEGEND)]
        for grid in grids(results):
            lines += ["", *_grid_table(grid, runs, notes)]
    if notes.texts:
        lines += ["", *(f"{index}. {_md(sentence(text))}" for index, text in enumerate(notes.texts, start=1))]
    return "\n".join([*lines, *_claims(results)]) + "\n"


def _simple_table(results: StudyResults, runs: Path, notes: Footnotes) -> list[str]:
    titles = mark_titles(results)
    head = ["Variant", *map(_md, titles), "Ours", "Paper", "Difference", "Verdict"]
    lines = [f"| {' | '.join(head)} |", f"| :-- |{' :-: |' * len(titles)} --: | --: | --: | :-- |"]
    for row in results.rows:
        label = _md(row.variant.label) + _marks(notes.mark(row.variant.note))
        verdict = _md(row.verdict.text) + _marks(notes.mark(row.verdict.why, seeds_missing(row)))
        marks = [_md(mark_text(row.variant.marks.get(title))) for title in titles]
        difference = number(row.row.difference, signed=True, digits=digits_of(row.metric))
        columns = [label, *marks, _md_ours(row, runs), paper_text(row), difference, verdict]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _grid_table(grid: Grid, runs: Path, notes: Footnotes) -> list[str]:
    heads = [_md(head) + _marks(notes.mark(note)) for head, note in zip(grid.heads, grid.notes, strict=True)]
    columns = [grid.corner, *map(_md, grid.marks), *heads]
    lines = [f"| {' | '.join(columns)} |", f"| :-- |{' :-: |' * len(grid.marks)}{' --: |' * len(heads)}"]
    for line in grid.lines:
        cells = [_md_cell(cell, runs, notes) for cell in line.cells]
        head = _md(line.head) + _marks(notes.mark(line.note))
        lines.append(f"| {' | '.join([head, *map(_md, line.marks), *cells])} |")
    return lines


def _md_cell(row: ResultRow | None, runs: Path, notes: Footnotes) -> str:
    if row is None:
        return ""
    if row.row.quoted:
        return f"({paper_text(row)})"
    reasons = [row.verdict.text] if not row.row.values else [seeds_missing(row)]
    paper = "" if row.row.published is None else f" / {paper_text(row)}"
    symbol = f" {SYMBOLS[row.verdict.tone]}".rstrip()
    return f"{_md_ours(row, runs)}{paper}{symbol}{_marks(notes.mark(*reasons))}"


def _claims(results: StudyResults) -> list[str]:
    if not results.claims:
        return []
    lines = ["", "## Claims", "", "| Claim | Check | Numbers | Source | Verdict |", "| :-- | :-- | :-- | :-- | :-- |"]
    for claim, decided in results.claims:
        why = f" ({_md(decided.why)})" if decided.why else ""
        numbers = f"`{decided.numbers}`" if decided.numbers else ""
        check = " ".join(claim.check.split()).replace("|", "\\|")
        columns = [_md(claim.say), f"`{check}`", numbers, _md(claim.source), f"**{decided.word}**{why}"]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _md_ours(row: ResultRow, runs: Path) -> str:
    if not row.runs:
        return ours_text(row)
    links = [f"{(runs / run.run_id).as_posix()}/" for run in row.runs]
    if len(links) == 1:
        return f"[{ours_text(row)}]({links[0]})"
    seeds = sorted(row.row.values)
    each = " ".join(f"[s{seed}]({link})" for seed, link in zip(seeds, links, strict=True))
    return f"{ours_text(row)} {each}"


def _marks(numbers: list[int]) -> str:
    return f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""


def _md(text: str) -> str:
    """Text in which Markdown finds no markup and a table cell no end."""
    text = " ".join(text.split())
    for character in "\\`*_[]<>|~":
        text = text.replace(character, f"\\{character}")
    return text
