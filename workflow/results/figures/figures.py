"""The figure of a study, as its key ``figure`` says (`workflow.inputs.figure_spec`).

Absolute accuracies of a small scale and of ImageNet have nothing to do with each other; the shape does. So points and
scatters have two panels, ours and the paper's, that share the order of variants but not the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.inputs.evaluations import find_evaluation, is_machine_metric
from workflow.results.figures.axis import axis_values
from workflow.results.figures.bars import compose_bars
from workflow.results.figures.epochs import compose_epochs
from workflow.results.figures.labels import name_points
from workflow.results.figures.panels import draw_dots, draw_lines
from workflow.results.figures.scatter import compose_scatter
from workflow.results.figures.style import (
    COLLAPSED,
    GUIDE,
    OURS,
    RANDOM,
    Drawing,
    complete,
    figure_style,
    new_figure,
    save,
)
from workflow.results.summary import StudyResults
from workflow.results.verdicts import PAPER_CHANCE, published_collapse
from workflow.results.words import digits_of, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 3
"""Metrics that get a row of panels each; more become small multiples of bars."""


def draw_figure(results: StudyResults, folder: Path) -> list[Path]:
    """Draw ``<study>.png`` and ``<study>.pdf`` into ``folder``; returns both paths."""
    study = results.study
    with figure_style():
        figure = compose_figure(results)
        return save(figure, folder / study.name, title=f"{study.title} ({study.paper})", results=results)


def compose_figure(results: StudyResults) -> Figure:
    """The figure itself, inside `figure_style`."""
    study = results.study
    kind, metrics = study.figure.kind, plotted_metrics(results)
    if kind == "scatter":
        drawing = compose_scatter(results)
    elif kind == "curves":
        drawing = compose_epochs(results)
    elif kind == "bars" or len(metrics) > MOST_ROWS:
        drawing = compose_bars(results, metrics)
    else:
        drawing = _compose_points(results, metrics)
    if kind != "curves" and any(row.error for row in results.rows):
        drawing.entries[_error_words(results)] = _error_handle()
    return complete(drawing, title=f"{study.title} ({study.paper})")


def plotted_metrics(results: StudyResults) -> list[str]:
    """The metrics of the figure: what is measured of a network, not what describes it (its size, a resolution)."""
    study = results.study
    if study.figure.kind != "curves" and study.figure.y is not None:
        return study.figure.y
    chosen = [metric for metric in study.metrics if is_machine_metric(metric) or digits_of(metric) > 0]
    chosen = [metric for metric in chosen if metric != "throughput.params"]
    return chosen or study.metrics[:1]


def _compose_points(results: StudyResults, metrics: Sequence[str]) -> Drawing:
    """A row of two panels for each metric: lines over the axis where it is numeric, rows of dots elsewhere."""
    numeric = axis_values(results)
    each = 2.6 if numeric else 0.8 + 0.32 * max(len(results.rows_of(metric)) for metric in metrics)
    figure = new_figure(each * len(metrics) + 0.75)
    in_paper = any(row.row.published is not None for metric in metrics for row in results.rows_of(metric))
    panels = figure.subplots(len(metrics), 2 if in_paper else 1, squeeze=False)
    named = []
    for metric, pair in zip(metrics, panels, strict=True):
        if numeric:
            named += draw_lines(pair, numeric, results, metric)
        else:
            draw_dots(pair, results, metric)
        _guides(pair, results, metric, vertical=not numeric, alone=len(metrics) == 1)

    def name_all() -> None:
        for axes, points in named:
            name_points(axes, points)

    return Drawing(figure, _legend(figure, results), name_all)


def _guides(pair: Sequence[Axes], results: StudyResults, metric: str, *, vertical: bool, alone: bool) -> None:
    """Lines for guessing and for random weights, named in the legend."""
    rows = results.rows_of(metric)
    random = next((row.row.mean for row in rows if row.random and row.row.mean is not None), None)
    on_imagenet = metric in results.chance and find_evaluation(metric).dataset == "imagenet"
    paper_chance = PAPER_CHANCE if on_imagenet else None
    untrained_label = f"random weights: {number(random)}" if alone else "random weights"
    levels = ((results.chance.get(metric), random), (paper_chance, None))
    for axes, (chance, untrained) in zip(pair, levels, strict=False):
        draw: Any = axes.axvline if vertical else axes.axhline
        if chance is not None:
            draw(chance, color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0, zorder=1, label="chance")
        if untrained is not None:
            draw(untrained, color=RANDOM, linestyle=(0, (6, 2)), linewidth=1.0, zorder=1, label=untrained_label)


def _legend(figure: Figure, results: StudyResults) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if any(row.collapsed or published_collapse(row.row) for row in results.rows):
        entries["collapsed"] = Line2D([], [], color=COLLAPSED, marker="X", linestyle="", markersize=7)
    return entries


def _error_words(results: StudyResults) -> str:
    return "standard deviation over seeds" if results.seeds > 1 else "standard error of the test set"


def _error_handle() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=OURS, marker="|", markersize=6, linewidth=1.4)
