"""A metric over another, every point with its name: ours beside the paper's (Fig. 5, Table 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workflow.inputs.evaluations import metric_words
from workflow.results.figures.axis import settings
from workflow.results.figures.labels import name_points
from workflow.results.figures.style import (
    COLLAPSED,
    DASHES,
    RANDOM,
    SERIES,
    Drawing,
    capital,
    draw_error,
    new_figure,
    panel_titles,
    plain_spines,
    say,
)
from workflow.results.summary import StudyResults
from workflow.results.verdicts import published_collapse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vP"
WORDS = {"vit_tiny": "ViT-T", "vit_small": "ViT-S", "vit_base": "ViT-B", "resnet50": "ResNet-50"}


@dataclass(frozen=True)
class ScatterPoint:
    """One variant in one panel."""

    label: str
    x: float
    y: float
    x_error: float
    y_error: float
    group: int
    """Which colour and line it has; -1 for random weights, which have none."""
    collapsed: bool

    @property
    def colour(self) -> str:
        """Of its mark and name."""
        return COLLAPSED if self.collapsed else RANDOM if self.group < 0 else SERIES[self.group % len(SERIES)]


def compose_scatter(results: StudyResults) -> Drawing:
    """Ours beside the paper's, which is left out where it has no point."""
    study = results.study
    x, y = str(study.figure.x), (study.figure.y or study.metrics)[0]
    ours, theirs = panel_titles(results)
    drawn = [(ours, scatter_points(results, x, y, paper=False)), (theirs, scatter_points(results, x, y, paper=True))]
    drawn = [(title, points) for index, (title, points) in enumerate(drawn) if points or index == 0]
    figure = new_figure(3.9)
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    named = []
    for axes, (title, points) in zip(panels, drawn, strict=True):
        words, shown = _readable_unit(metric_words(x), points)
        _draw_panel(axes, shown)
        axes.set_title(title)
        axes.set_xlabel(capital(words))
        if study.figure.log_x and shown:
            _log_axis(axes)
        named.append((axes, shown))
    panels[0].set_ylabel(capital(metric_words(y)))

    def name_all() -> None:
        for axes, shown in named:
            name_points(axes, [(point.x, point.y, point.label) for point in shown])

    return Drawing(figure, _legend(named, joined(results)), name_all)


def joined(results: StudyResults) -> dict[str, str]:
    """The value of the field that joins points, by variant, in words (``100 epochs``); empty where none does."""
    field, study = results.study.figure.join, results.study
    if field is None:
        return {}
    values = {name: fields[field] for name, fields in settings(study).items()}
    return {name: WORDS.get(str(each)) or f"{each} {field.replace('_', ' ')}" for name, each in values.items()}


def scatter_points(results: StudyResults, x: str, y: str, *, paper: bool) -> list[ScatterPoint]:
    """The variants that have both numbers, ours or the paper's."""
    across, up = ({row.name: row for row in results.rows_of(metric)} for metric in (x, y))
    groups = joined(results)
    order = list(dict.fromkeys(groups.values()))
    points = []
    for name, variant in results.study.variants.items():
        if name not in across or name not in up:
            continue
        first, second = across[name], up[name]
        values = (first.row.published, second.row.published) if paper else (first.row.mean, second.row.mean)
        if values[0] is None or values[1] is None:
            continue
        points.append(
            ScatterPoint(
                label=variant.label.removesuffix(f", {groups.get(name)}"),  # the legend says it
                x=values[0],
                y=values[1],
                x_error=0.0 if paper else first.error or 0.0,
                y_error=0.0 if paper else second.error or 0.0,
                group=-1 if second.random else order.index(groups[name]) if groups else 0,
                collapsed=published_collapse(second.row) if paper else second.collapsed,
            )
        )
    return points


def _readable_unit(words: str, points: list[ScatterPoint]) -> tuple[str, list[ScatterPoint]]:
    """Hours as minutes where all are below two."""
    if "(h)" not in words or max((point.x for point in points), default=2.0) >= 2.0:
        return words, points
    return words.replace("(h)", "(min)"), [replace(each, x=60 * each.x, x_error=60 * each.x_error) for each in points]


def _draw_panel(axes: Axes, points: list[ScatterPoint]) -> None:
    plain_spines(axes)
    axes.grid(axis="both")
    if not points:
        say(axes, "not run")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for group in sorted({point.group for point in points if point.group >= 0}):
        line = sorted((point.x, point.y) for point in points if point.group == group and not point.collapsed)
        look = {"color": SERIES[group % len(SERIES)], "linestyle": DASHES[group % len(DASHES)]}
        axes.plot(*zip(*line, strict=True), linewidth=1.1, alpha=0.6, **look) if len(line) > 1 else None
    for point in points:
        draw_error(axes, (point.x, point.y), point.x_error, along="x", colour=point.colour)
        draw_error(axes, (point.x, point.y), point.y_error, along="y", colour=point.colour)
        marker = "X" if point.collapsed else MARKERS[point.group % len(MARKERS)]
        axes.plot(point.x, point.y, marker, color=point.colour, markersize=7, markeredgecolor="white", zorder=4)
    axes.margins(0.16, 0.18)


def _log_axis(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers, at least three of them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones: powers of ten, or as many between them as give three."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), [step / 10 for step in range(10, 100, 5)]):
        ticks = [power * step for power in powers for step in steps if low <= power * step <= high]
        if len(ticks) >= 3:
            return ticks
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]


def _legend(panels: list[tuple[Axes, list[ScatterPoint]]], groups: dict[str, str]) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    points = [point for _, shown in panels for point in shown]
    names = list(dict.fromkeys(groups.values()))
    entries: dict[str, Any] = {}
    for group in sorted({point.group for point in points if point.group >= 0}) if len(names) > 1 else []:
        look = {"color": SERIES[group % len(SERIES)], "linestyle": DASHES[group % len(DASHES)]}
        entries[names[group]] = Line2D([], [], marker=MARKERS[group % len(MARKERS)], linewidth=1.1, **look)
    if any(point.group < 0 for point in points):
        entries["random weights"] = Line2D([], [], color=RANDOM, linestyle="", marker=MARKERS[-1])
    if any(point.collapsed for point in points):
        entries["collapsed"] = Line2D([], [], color=COLLAPSED, linestyle="", marker="X", markersize=7)
    return entries
