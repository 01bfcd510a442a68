"""The figure of a study: ours beside the paper's, in two panels that share the order of variants but not the scale.

Absolute accuracies of a small scale and of ImageNet have nothing to do with each other; the shape does. Studies whose
``axis`` is numeric get lines over it, the others rows of dots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino.config import RunConfig, load_recipe
from workflow.results.style import (
    COLLAPSED,
    GUIDE,
    OURS,
    PAPER,
    RANDOM,
    figure_style,
    legend_below,
    new_figure,
    panel_titles,
    save,
)
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.tables import metric_words, number
from workflow.results.verdicts import PAPER_CHANCE, published_collapse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """One number of a panel; ``seeds`` are the single runs behind a mean."""

    value: float | None
    error: float = 0.0
    seeds: tuple[float, ...] = ()
    collapsed: bool = False
    random: bool = False
    missing: str = ""

    @property
    def top(self) -> float:
        """The upper end of its error bar; 0 where there is no number."""
        return 0.0 if self.value is None else self.value + self.error


def draw_figure(results: StudyResults, folder: Path) -> list[Path]:
    """Draw ``<study>.png`` and ``<study>.pdf`` into ``folder``; returns both paths."""
    study = results.study
    with figure_style():
        figure = compose_figure(results)
        return save(figure, folder / study.name, title=f"{study.title} ({study.paper})", results=results)


def compose_figure(results: StudyResults) -> Figure:
    """The figure itself, inside `figure_style`: a row of two panels for each metric."""
    study = results.study
    numeric = axis_values(results)
    each = 2.6 if numeric else 0.8 + 0.32 * len(study.variants)
    figure = new_figure(each * len(study.metrics) + 0.75)
    panels = figure.subplots(len(study.metrics), 2, squeeze=False)
    for metric, pair in zip(study.metrics, panels, strict=True):
        if numeric:
            _draw_lines(pair, numeric, results, metric)
        else:
            _draw_dots(pair, results, metric)
        _guides(pair, results, metric, vertical=not numeric)
    figure.suptitle(f"{study.title} ({study.paper})", x=0.01, ha="left", fontsize=11, fontweight="bold")
    _legend(figure, results)
    return figure


def axis_values(results: StudyResults) -> dict[str, float] | None:
    """The value of the study's ``axis`` for each variant, or None where it is no number for all of them.

    A variant that does not set the axis has the base recipe's value.
    """
    field = results.study.axis
    if field is None:
        return None
    default = load_recipe(results.study.base).get(field, RunConfig.model_fields[field].default)
    values = {name: variant.set.get(field, default) for name, variant in results.study.variants.items()}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
        return None
    return {name: float(value) for name, value in values.items()}


def special_variants(results: StudyResults) -> set[str]:
    """Variants that differ from most others in more than the axis (0.04 to 0.07 among constant temperatures)."""
    study = results.study
    recipe = {name: field.default for name, field in RunConfig.model_fields.items()} | load_recipe(study.base)
    rest = {}
    for name, variant in study.variants.items():
        if variant.set.get("epochs") == 0:  # random weights are off every axis
            continue
        merged = {key: value for key, value in {**recipe, **variant.set}.items() if key != study.axis}
        rest[name] = tuple(sorted((key, repr(value)) for key, value in merged.items()))
    settings = list(rest.values())
    usual = max(dict.fromkeys(settings), key=settings.count)
    return {name for name, setting in rest.items() if setting != usual}


def positions(values: Sequence[float]) -> tuple[list[float], bool]:
    """Where values stand on the x axis: as they are, or evenly spaced where a linear axis would crowd them.

    Returns:
        The positions, and whether they are evenly spaced (0, 0.9, 0.99, 0.999 would lie on top of each other).
    """
    distinct = sorted(set(values))
    gaps = [right - left for left, right in pairwise(distinct)]
    if gaps and min(gaps) < 0.05 * (distinct[-1] - distinct[0]):
        return [float(distinct.index(value)) for value in values], True
    return list(values), False


def _ours(row: ResultRow) -> Point:
    seeds = tuple(cell.value for _, cell in sorted(row.row.values.items()))
    missing = "" if seeds else "quoted" if row.variant.quoted else "not run"
    return Point(row.row.mean, row.error or 0.0, seeds, row.collapsed, row.random, missing)


def _paper(row: ResultRow) -> Point:
    missing = "not in the paper" if row.row.published is None else ""
    return Point(row.row.published, collapsed=published_collapse(row.row), missing=missing)


def _panels(pair: Sequence[Axes], results: StudyResults, metric: str) -> Any:
    """For each panel: its axes, colour, marker and points, with what both kinds of figure share already drawn."""
    rows = results.rows_of(metric)
    for axes, title, colour, marker, read in zip(
        pair, panel_titles(results), (OURS, PAPER), ("o", "s"), (_ours, _paper), strict=True
    ):
        axes.set_title(title)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        yield axes, colour, marker, [read(row) for row in rows]


def _look(point: Point, colour: str, marker: str) -> tuple[str, str, float]:
    """Colour, marker and size (in points) of a number."""
    if point.collapsed:
        return COLLAPSED, "X", 8
    return (RANDOM if point.random else colour), marker, (6 if marker == "s" else 7.5)


def _limits(axes: Axes, points: list[Point], *, along: str) -> None:
    """From 0 to a little above the largest number, with room for its label and no tick beyond 100 %."""
    top = max((point.top for point in points), default=0.0) or 1.0
    if 50 < top <= 100:
        getattr(axes, f"set_{along}ticks")(range(0, 101, 20))
    getattr(axes, f"set_{along}lim")(0, top * (1.22 if along == "x" else 1.28))


# --- rows of dots ----------------------------------------------------------------------------------------------------


def _draw_dots(pair: Sequence[Axes], results: StudyResults, metric: str) -> None:
    labels = [row.variant.label for row in results.rows_of(metric)]
    for axes, colour, marker, points in _panels(pair, results, metric):
        for height, point in enumerate(points):
            _dot(axes, height, point, colour, marker)
        _limits(axes, points, along="x")
        axes.set_ylim(len(labels) - 0.45, -0.55)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(metric_words(metric))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
    pair[1].tick_params(axis="y", labelleft=False)


def _dot(axes: Axes, height: float, point: Point, colour: str, marker: str) -> None:
    place = {"textcoords": "offset points", "va": "center"}
    if point.value is None:
        axes.annotate(point.missing, (0, height), xytext=(6, 0), color=GUIDE, style="italic", **place)  # type: ignore[arg-type]
        return
    colour, marker, size = _look(point, colour, marker)
    axes.hlines(height, 0, point.value, color=colour, linewidth=1.1, alpha=0.45)
    if len(point.seeds) > 1:
        axes.plot(point.seeds, [height] * len(point.seeds), "|", color=colour, markersize=10, alpha=0.6)
    if point.error:
        axes.errorbar(point.value, height, xerr=point.error, fmt="none", ecolor=colour, elinewidth=1.4, capsize=2.5)
    mark = {"color": colour, "markersize": size, "markeredgecolor": "white", "clip_on": False, "zorder": 3}
    axes.plot(point.value, height, marker, **mark)  # type: ignore[arg-type]
    shade = colour if point.collapsed else "#222222"
    axes.annotate(number(point.value), (point.top, height), xytext=(8, 0), color=shade, **place)  # type: ignore[arg-type]


# --- lines over a numeric axis ---------------------------------------------------------------------------------------


def _draw_lines(pair: Sequence[Axes], values: dict[str, float], results: StudyResults, metric: str) -> None:
    rows = results.rows_of(metric)
    special = special_variants(results)
    # An untrained network has no place on the axis: it is a line across it, with its number in the legend.
    off_axis = special | {row.name for row in rows if row.random}
    places, even = positions([values[row.name] for row in rows])
    ticks = sorted(
        {x: values[row.name] for x, row in zip(places, rows, strict=True) if row.name not in off_axis}.items()
    )
    span = max(places) - min(places) or 1.0
    for axes, colour, marker, points in _panels(pair, results, metric):
        line = {
            x: point.value
            for x, point, row in sorted(zip(places, points, rows, strict=True), key=lambda item: item[0])
            if row.name not in off_axis and point.value is not None
        }
        axes.plot(list(line), list(line.values()), "-", color=colour, linewidth=1.4, alpha=0.7)
        for x, point, row in zip(places, points, rows, strict=True):
            if point.value is not None and not point.random:
                name = row.variant.label if row.name in special else ""
                _mark(axes, x, point, _look(point, colour, marker), name=name, below=_in_valley(x, line))
        _limits(axes, points, along="y")
        axes.set_xticks([x for x, _ in ticks], [f"{value:g}" for _, value in ticks])
        axes.set_xlim(min(places) - 0.12 * span, max(places) + 0.15 * span)
        axes.set_xlabel(f"{_axis_words(results.study.axis or '')}{' (evenly spaced)' if even else ''}")
        axes.grid(axis="y")
    pair[0].set_ylabel(metric_words(metric))


def _mark(axes: Axes, x: float, point: Point, look: tuple[str, str, float], *, name: str, below: bool) -> None:
    """One point with its number; ``name`` marks a variant that stands off the line, as an open diamond."""
    value = point.value or 0.0
    colour, marker, size = look
    if point.error:
        axes.errorbar(x, value, yerr=point.error, fmt="none", ecolor=colour, elinewidth=1.4, capsize=2.5)
    if len(point.seeds) > 1:
        axes.plot([x] * len(point.seeds), point.seeds, "_", color=colour, markersize=10, alpha=0.6)
    face, edge = colour, "white"
    text, pointer = number(value), None
    anchor = (x, point.top)
    place: dict[str, Any] = {"xytext": (0, 7), "ha": "center", "va": "bottom"}
    if point.collapsed:
        place = {"xytext": (9, 1), "ha": "left", "va": "bottom"}
    elif name:
        face, edge, marker = "white", colour, "D"
        place["xytext"] = (0, 19)
        pointer = {"arrowstyle": "-", "color": GUIDE, "linewidth": 0.6, "shrinkB": 4}
    elif below:
        anchor = (x, value - point.error)
        place = {"xytext": (0, -8), "ha": "center", "va": "top"}
    if name:
        text = f"{name}: {text}"
    axes.plot(x, value, marker, color=face, markersize=size, markeredgecolor=edge, clip_on=False, zorder=3)
    shade = colour if point.collapsed else "#222222"
    axes.annotate(text, anchor, textcoords="offset points", color=shade, arrowprops=pointer, **place)


def _in_valley(x: float, line: dict[float, float]) -> bool:
    """Whether the line leaves the point at ``x`` upwards on some side, through where its label would be."""
    order = sorted(line)
    if x not in line:
        return False
    index = order.index(x)
    beside = [line[order[other]] for other in (index - 1, index + 1) if 0 <= other < len(order)]
    return bool(beside) and max(beside) > line[x] + 0.05 * max(line.values())


def _axis_words(field: str) -> str:
    return field.replace("_", " ").replace("center", "centre").replace("temp", "temperature").capitalize()


# --- shared ----------------------------------------------------------------------------------------------------------


def _guides(pair: Sequence[Axes], results: StudyResults, metric: str, *, vertical: bool) -> None:
    """Lines for guessing and for random weights, named in the legend."""
    rows = results.rows_of(metric)
    random = next((row.row.mean for row in rows if row.random and row.row.mean is not None), None)
    paper_chance = PAPER_CHANCE if metric in results.chance else None
    for axes, chance, untrained in ((pair[0], results.chance.get(metric), random), (pair[1], paper_chance, None)):
        draw: Any = axes.axvline if vertical else axes.axhline
        if chance is not None:
            draw(chance, color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0, zorder=1, label="chance")
        if untrained is not None:
            draw(untrained, color=RANDOM, linestyle=(0, (6, 2)), linewidth=1.0, zorder=1, label=f"random weights: {number(untrained)}")


def _legend(figure: Figure, results: StudyResults) -> None:
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if any(row.collapsed or published_collapse(row.row) for row in results.rows):
        entries["collapsed"] = Line2D([], [], color=COLLAPSED, marker="X", linestyle="", markersize=7)
    if any(row.error for row in results.rows):
        bars = "standard deviation over seeds" if results.seeds > 1 else "standard error of the test set"
        entries[bars] = Line2D([], [], color=OURS, marker="|", markersize=6, linewidth=1.4)
    legend_below(figure, entries, columns=len(entries))
