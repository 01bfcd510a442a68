"""One study of the report page: its numbers, claims, figures and files as the template wants them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from workflow.inputs.evaluations import metric_words
from workflow.results.report.gallery import study_images
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.tables.layout import Grid, grids, is_simple
from workflow.results.verdicts import TONES, Kind
from workflow.results.words import (
    SYMBOLS,
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

TONE_ORDER = ("good", "open", "bad", "neutral")


def tally(counts: Counter[Any]) -> list[dict[str, Any]]:
    """Verdicts with how often they occur; rows that have nothing to be judged by do not count as judged."""
    unjudged = (Kind.REFERENCE, Kind.MEASURED, Kind.QUOTED)
    entries = [
        {"word": str(word), "tone": TONES[word], "count": count, "judged": word not in unjudged}
        for word, count in counts.items()
    ]
    return sorted(entries, key=lambda entry: (TONE_ORDER.index(entry["tone"]), entry["word"]))


def study_section(results: StudyResults, folder: Path, page_folder: Path) -> dict[str, Any]:
    """One study as the template shows it."""
    study = results.study
    simple = is_simple(results)
    return {
        "claim_counts": tally(Counter(verdict.word for _, verdict in results.claims)),
        "cell_counts": tally(Counter(row.verdict.kind.value for row in results.rows)),
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "description": study.description,
        "limit": results.limit,
        "mark_titles": mark_titles(results),
        "facts": facts(results, limit=False),
        "rows": [_row(row, results, page_folder) for row in results.rows] if simple else [],
        "grids": [] if simple else [_grid(grid, page_folder) for grid in grids(results)],
        "claims": [
            {
                **{"say": claim.say, "check": " ".join(claim.check.split()), "source": claim.source},
                **{"word": verdict.word, "tone": TONES[verdict.word], "why": verdict.why, "numbers": verdict.numbers},
            }
            for claim, verdict in results.claims
        ],
        "figures": study_images(results, folder),
        "files": _files(study.name, folder, page_folder),
    }


def _row(row: ResultRow, results: StudyResults, page_folder: Path) -> dict[str, Any]:
    titles = mark_titles(results)
    return {
        "label": row.variant.label,
        "note": row.variant.note,
        "marks": [mark_text(row.variant.marks.get(title)) for title in titles],
        **_cell(row, page_folder),
    }


def _grid(grid: Grid, page_folder: Path) -> dict[str, Any]:
    return {
        "corner": grid.corner,
        "marks": grid.marks,
        "heads": list(zip(grid.heads, grid.notes, strict=True)),
        "lines": [
            {
                "head": line.head,
                "note": line.note,
                "marks": line.marks,
                "cells": [None if cell is None else _cell(cell, page_folder) for cell in line.cells],
            }
            for line in grid.lines
        ],
    }


def _cell(row: ResultRow, page_folder: Path) -> dict[str, Any]:
    reasons = [row.verdict.why, seeds_missing(row)]
    seeds = sorted(row.row.values)
    return {
        "metric": metric_words(row.metric),
        "quoted": row.row.quoted,
        "measured": bool(row.row.values),
        "symbol": SYMBOLS[row.verdict.tone],
        "ours": ours_text(row),
        "paper": paper_text(row),
        "difference": number(row.row.difference, signed=True, digits=digits_of(row.metric)),
        "verdict": row.verdict.text,
        "tone": row.verdict.tone,
        "why": " ".join(sentence(reason) for reason in reasons if reason),
        "links": [
            {"seed": seed, "run_id": run.run_id, "href": href(run.folder, page_folder)}
            for seed, run in zip(seeds, row.runs, strict=False)
        ],
    }


def _files(name: str, folder: Path, page_folder: Path) -> list[dict[str, str]]:
    candidates = [folder / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    candidates += [folder / "figures" / f"{name}{part}.pdf" for part in ("", "-curves")]
    return [{"name": path.name, "href": href(path, page_folder)} for path in candidates if path.is_file()]


def href(path: Path, page_folder: Path) -> str:
    """A relative link from the page's folder."""
    relative = Path(os.path.relpath(path, page_folder)).as_posix()
    return f"{relative}/" if path.is_dir() else relative
