"""How a study's numbers are laid out, so that wide tables stay readable.

One metric gets a line a variant with our number, the paper's, their difference and the verdict in words. Several
metrics get a grid whose cells are ``ours / paper`` with a symbol; many metrics of few variants are turned, metrics down
the side, and what is still too wide is cut into several grids.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.inputs.evaluations import metric_words
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.words import mark_text, mark_titles

WIDEST = 6
"""Columns of numbers that a page holds."""


@dataclass(frozen=True)
class Line:
    """One line of a grid."""

    head: str
    note: str | None
    """A footnote of the head."""
    marks: tuple[str, ...]
    cells: tuple[ResultRow | None, ...]
    """None where the study has no such cell."""


@dataclass(frozen=True)
class Grid:
    """A table of cells."""

    corner: str
    """The title of the first column."""
    marks: tuple[str, ...]
    """Titles of the further columns of words."""
    heads: tuple[str, ...]
    """Titles of the columns of numbers."""
    notes: tuple[str | None, ...]
    """Their footnotes."""
    lines: tuple[Line, ...]


def is_simple(results: StudyResults) -> bool:
    """Whether the study has one metric, so that there is room for words."""
    return len(results.study.metrics) == 1


def is_turned(results: StudyResults) -> bool:
    """Whether metrics go down the side: there are more than a page is wide, and few variants."""
    metrics, variants = results.study.metrics, results.study.variants
    return len(metrics) > WIDEST and len(variants) <= WIDEST


def grids(results: StudyResults) -> list[Grid]:
    """The study's grids; several where one would be too wide."""
    rows = {(row.name, row.metric): row for row in results.rows}
    study = results.study
    titles = mark_titles(results)
    if is_turned(results):
        variants = list(study.variants)
        lines = [
            Line(metric_words(metric), None, (), tuple(rows.get((name, metric)) for name in variants))
            for metric in study.metrics
        ]
        heads = tuple(_head(study.variants[name].label, study.variants[name].marks) for name in variants)
        notes = tuple(study.variants[name].note for name in variants)
        return [Grid("Metric", (), heads, notes, tuple(lines))]
    blocks = _blocks(study.metrics)
    found = []
    for block in blocks:
        lines = []
        for name, variant in study.variants.items():
            cells = tuple(rows.get((name, metric)) for metric in block)
            if len(blocks) > 1 and not any(cells):
                continue
            entries = tuple(mark_text(variant.marks.get(title)) for title in titles)
            lines.append(Line(variant.label, variant.note, entries, cells))
        heads = tuple(metric_words(metric) for metric in block)
        found.append(Grid("Variant", tuple(titles), heads, (None,) * len(block), tuple(lines)))
    return found


def _head(label: str, marks: dict[str, bool | str]) -> str:
    words = [f"{title} {mark_text(value)}" for title, value in marks.items()]
    return f"{label} ({', '.join(words)})" if words else label


def _blocks(metrics: list[str]) -> list[list[str]]:
    """The metrics in order, cut where an evaluation ends before a page's width is passed."""
    blocks: list[list[str]] = [[]]
    by_evaluation: dict[str, list[str]] = {}
    for metric in metrics:
        by_evaluation.setdefault(metric.split(".")[0], []).append(metric)
    for group in by_evaluation.values():
        if blocks[-1] and len(blocks[-1]) + len(group) > WIDEST:
            blocks.append([])
        blocks[-1] += group
    return blocks
