"""Bars, small multiples of metrics: ours filled, the paper's value as a hollow marker on it, quotations outlined."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.inputs.evaluations import metric_words
from workflow.results.figures.style import (
    COLLAPSED,
    GUIDE,
    OURS,
    PAPER,
    RANDOM,
    WIDTH,
    Drawing,
    draw_error,
    new_figure,
    plain_spines,
    split_words,
)
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.words import digits_of, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 4
LINE = 0.2
"""Inches of a variant's bar with the space around it."""
TEXT = 0.16
"""Inches of a line of text."""
WIDE = 30.0
"""Values that differ by more than this factor, and are no shares, stand on a logarithmic axis, which has no bars."""


@dataclass(frozen=True)
class _Panel:
    metric: str
    """That its axis is of."""
    title: str
    axis: str
    rows: tuple[tuple[str, ResultRow | None], ...]
    """Name and number of each bar; None leaves its place free."""


def compose_bars(results: StudyResults, metrics: Sequence[str]) -> Drawing:
    """A panel for each metric; one for all where a single variant has several metrics of one kind."""
    layout = _one_panel(results, metrics) or _panels(results, metrics)
    bars = len(layout[0].rows)
    longest = max(len(label) for label, _ in layout[0].rows)
    columns = min(len(layout), MOST_COLUMNS if longest < 34 else MOST_COLUMNS - 1)
    lines = math.ceil(len(layout) / columns)
    inches = (WIDTH - 0.3 - 0.07 * longest) / columns
    titled = len({panel.title for panel in layout}) > 1
    titles = [textwrap.wrap(panel.title, int(inches / 0.075)) if titled else [] for panel in layout]
    words = [textwrap.wrap(panel.axis, int(inches / 0.065)) for panel in layout]
    head, foot = (max(map(len, texts)) for texts in (titles, words))
    figure = new_figure((LINE * bars + 0.45 + TEXT * (head + foot)) * lines + 0.7)
    places = figure.subplots(lines, columns, squeeze=False)
    for axes in places.flat[len(layout) :]:
        axes.set_visible(False)
    for index, (axes, panel) in enumerate(zip(places.flat, layout, strict=False)):
        _draw_panel(axes, panel, results)
        axes.set_title("\n".join(titles[index]), fontsize=8.5)
        axes.set_xlabel("\n".join(words[index]))
        axes.tick_params(axis="y", labelleft=index % columns == 0)
    return Drawing(figure, _legend(results, metrics))


def _panels(results: StudyResults, metrics: Sequence[str]) -> list[_Panel]:
    wanted = {row.name for metric in metrics for row in results.rows_of(metric)}
    variants = [name for name in results.study.variants if name in wanted]
    found = []
    for metric in metrics:
        rows = {row.name: row for row in results.rows_of(metric)}
        bars = tuple((results.study.variants[name].label, rows.get(name)) for name in variants)
        found.append(_Panel(metric, *split_words(metric), bars))
    return found


def _one_panel(results: StudyResults, metrics: Sequence[str]) -> list[_Panel]:
    rows = [row for metric in metrics for row in results.rows_of(metric)]
    if len({row.name for row in rows}) > 1 or not all("top-1 (%)" in metric_words(metric) for metric in metrics):
        return []
    names = [split_words(row.metric)[1].replace("top-1 (%), ", "") for row in rows]
    axis = f"{split_words(metrics[0])[0]} top-1 (%), {rows[0].variant.label}"
    return [_Panel(metrics[0], "", axis, tuple(zip(names, rows, strict=True)))]


def _draw_panel(axes: Axes, panel: _Panel, results: StudyResults) -> None:
    plain_spines(axes, keep=("bottom",))
    axes.set_ylim(len(panel.rows) - 0.4, -0.6)
    axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    rows = [row.row for _, row in panel.rows if row is not None]
    values = [value for row in rows for value in (row.mean, row.published) if value is not None]
    positive = [value for value in values if value > 0]
    logarithmic = not _is_share(results, panel.metric) and bool(positive) and max(positive) > WIDE * min(positive)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 2.5, max(positive) * 6)
    else:
        top, bottom = max([0.0, *values]) or 1.0, min([0.0, *values])
        axes.set_xlim(1.25 * bottom, 1.3 * top)
        if 50 < top <= 100:
            axes.set_xticks(range(0, 101, 25))
    for height, (_, row) in enumerate(panel.rows):
        if row is not None:
            _draw_row(axes, height, row, _colour(row, results), logarithmic=logarithmic)
    if panel.metric in results.chance and not logarithmic:
        axes.axvline(results.chance[panel.metric], color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0, zorder=1)


def _is_share(results: StudyResults, metric: str) -> bool:
    return all("(%)" in metric_words(part) for part in results.study.parts_of(metric))


def _draw_row(axes: Axes, height: int, row: ResultRow, colour: str, *, logarithmic: bool) -> None:
    ours, paper = row.row.mean, row.row.published
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7.5}
    digits = digits_of(row.metric)
    if row.variant.quoted:
        if paper is not None:
            _bar(axes, height, paper, logarithmic=logarithmic, facecolor="none", edgecolor=GUIDE, linewidth=0.9)
            text = number(paper, digits=digits)
            axes.annotate(text, (paper, height), xytext=(4, 0), color="#666666", style="italic", **place)
        return
    if ours is None:
        at = (axes.get_xlim()[0] if logarithmic else 0.0, height)
        axes.annotate("not run", at, xytext=(4, 0), color=GUIDE, style="italic", **place)
    else:
        _bar(axes, height, ours, logarithmic=logarithmic, facecolor=colour, edgecolor=colour, alpha=0.85)
        draw_error(axes, (ours, height), row.error, along="x", colour="#222222")
    if paper is not None:
        axes.plot(paper, height, "D", markerfacecolor="white", markeredgecolor=PAPER, markersize=4.6, zorder=4)
    if ours is not None:
        # Beyond the paper's marker where that would lie on the number; its colour says whose it is.
        end = max(ours + (row.error or 0.0), paper or 0.0, 0.0)
        axes.annotate(number(ours, digits=digits), (end, height), xytext=(5, 0), color=colour, **place)


def _bar(axes: Axes, height: int, value: float, *, logarithmic: bool, **look: Any) -> None:
    if logarithmic:
        axes.plot(value, height, "o", markersize=5.5, **{_MARKER[key]: each for key, each in look.items()})
    else:
        axes.barh(height, value, height=0.66, **look)


_MARKER = {
    "facecolor": "markerfacecolor",
    "edgecolor": "markeredgecolor",
    "alpha": "alpha",
    "linewidth": "markeredgewidth",
}


def _colour(row: ResultRow, results: StudyResults) -> str:
    """Random weights stand out only beside others."""
    return (
        COLLAPSED if row.collapsed else RANDOM if row.random and not all(each.random for each in results.rows) else OURS
    )


def _legend(results: StudyResults, metrics: Sequence[str]) -> dict[str, Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = [row for row in results.rows if row.metric in metrics]
    measured = [row for row in rows if row.row.mean is not None and not row.variant.quoted]
    colours = {_colour(row, results) for row in measured}
    names = {f"ours, scale {results.scale.name}": OURS, "random weights": RANDOM, "collapsed": COLLAPSED}
    entries: dict[str, Any] = {
        name: Patch(facecolor=colour, alpha=0.85) for name, colour in names.items() if colour in colours
    }
    if any(row.row.published is not None and not row.variant.quoted for row in rows):
        entries["the paper's"] = Line2D(
            [], [], linestyle="", marker="D", markerfacecolor="white", markeredgecolor=PAPER, markersize=5
        )
    if any(row.variant.quoted for row in rows):
        entries["quoted by the paper"] = Patch(facecolor="none", edgecolor=GUIDE)
    if any(metric in results.chance for metric in metrics):
        entries["chance"] = Line2D([], [], color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0)
    return entries
