"""The panels of a figure of points: rows of dots, or lines over a numeric axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workflow.inputs.evaluations import metric_words
from workflow.results.figures.axis import positions, special_variants
from workflow.results.figures.style import COLLAPSED, GUIDE, OURS, PAPER, RANDOM, panel_titles, plain_spines
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.verdicts import published_collapse
from workflow.results.words import digits_of, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """One number of a panel; ``seeds`` are the single runs behind a mean."""

    value: float | None
    error: float = 0.0
    seeds: tuple[float, ...] = ()
    collapsed: bool = False
    random: bool = False
    missing: str = ""
    digits: int = 1

    @property
    def top(self) -> float:
        """The upper end of its error bar; 0 where there is no number."""
        return 0.0 if self.value is None else self.value + self.error


def _ours(row: ResultRow) -> Point:
    seeds = tuple(cell.value for _, cell in sorted(row.row.values.items()))
    missing = "" if seeds else "quoted" if row.variant.quoted else "not run"
    return _point(row, row.row.mean, row.error or 0.0, seeds, row.collapsed, row.random, missing)


def _paper(row: ResultRow) -> Point:
    missing = "not in the paper" if row.row.published is None else ""
    return _point(row, row.row.published, 0.0, (), published_collapse(row.row), False, missing)


def _point(row: ResultRow, value: float | None, *rest: Any) -> Point:
    """A point with the decimals of its metric; a negative difference is written, since panels start at 0."""
    digits = digits_of(row.metric)
    if value is not None and value < 0:
        return Point(None, missing=number(value, digits=digits))
    return replace(Point(value, *rest), digits=digits)


def _panels(pair: Sequence[Axes], results: StudyResults, metric: str) -> Any:
    """For each panel, ours and the paper's where there are two: its axes, colour, marker and points.

    What both kinds of figure share is already drawn.
    """
    rows = results.rows_of(metric)
    looks = zip(panel_titles(results), (OURS, PAPER), ("o", "s"), (_ours, _paper), strict=True)
    for axes, (title, colour, marker, read) in zip(pair, looks, strict=False):
        axes.set_title(title)
        plain_spines(axes)
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


def draw_dots(pair: Sequence[Axes], results: StudyResults, metric: str) -> None:
    """A row a variant, with its number."""
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
    for axes in pair[1:]:
        axes.tick_params(axis="y", labelleft=False)


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
    axes.annotate(number(point.value, digits=point.digits), (point.top, height), xytext=(8, 0), color=shade, **place)  # type: ignore[arg-type]


# --- lines over a numeric axis ---------------------------------------------------------------------------------------


def draw_lines(
    pair: Sequence[Axes], values: dict[str, float], results: StudyResults, metric: str
) -> list[tuple[Axes, list[tuple[float, float, str]]]]:
    """A line over the study's axis, whose ``values`` are by variant; variants off the axis stand beside it.

    Returns:
        For each panel the variants off the axis, to be named when the layout is final (`labels.name_points`).
    """
    named = []
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
        axes.set_xlim(min(places) - 0.12 * span, max(places) + 0.15 * span)
        beside = []
        for x, point, row in zip(places, points, rows, strict=True):
            if point.value is None or point.random:
                continue
            _mark(axes, x, point, _look(point, colour, marker), off=row.name in special, below=_in_valley(x, line))
            if row.name in special:
                beside.append((x, point.value, f"{row.variant.label}: {number(point.value, digits=point.digits)}"))
        named.append((axes, beside))
        _limits(axes, points, along="y")
        axes.set_xticks([x for x, _ in ticks], [f"{value:g}" for _, value in ticks])
        axes.set_xlabel(f"{_axis_words(results.study.axis or '')}{' (evenly spaced)' if even else ''}")
        axes.grid(axis="y")
    pair[0].set_ylabel(metric_words(metric))
    return named


def _mark(axes: Axes, x: float, point: Point, look: tuple[str, str, float], *, off: bool, below: bool) -> None:
    """One point with its number; one ``off`` the line is an open diamond, which is named later."""
    value = point.value or 0.0
    colour, marker, size = look
    if point.error:
        axes.errorbar(x, value, yerr=point.error, fmt="none", ecolor=colour, elinewidth=1.4, capsize=2.5)
    if len(point.seeds) > 1:
        axes.plot([x] * len(point.seeds), point.seeds, "_", color=colour, markersize=10, alpha=0.6)
    face, edge, marker = ("white", colour, "D") if off and not point.collapsed else (colour, "white", marker)
    axes.plot(x, value, marker, color=face, markersize=size, markeredgecolor=edge, clip_on=False, zorder=3)
    if off:
        return
    place: dict[str, Any] = {"xytext": (0, 7), "ha": "center", "va": "bottom"}
    anchor = (x, point.top)
    if point.collapsed:
        place = {"xytext": (9, 1), "ha": "left", "va": "bottom"}
    elif below:
        anchor = (x, value - point.error)
        place = {"xytext": (0, -8), "ha": "center", "va": "top"}
    shade = colour if point.collapsed else "#222222"
    text = number(value, digits=point.digits)
    axes.annotate(text, anchor, textcoords="offset points", color=shade, **place)


def _in_valley(x: float, line: dict[float, float]) -> bool:
    """Whether the line leaves the point at ``x`` upwards on some side, through where its label would be."""
    order = sorted(line)
    if x not in line:
        return False
    index = order.index(x)
    beside = [line[order[other]] for other in (index - 1, index + 1) if 0 <= other < len(order)]
    return bool(beside) and max(beside) > line[x] + 0.05 * max(line.values())


_FIELDS = {"out_dim": "Prototypes", "head_layers": "Layers of the head", "num_heads": "Attention heads"}


def _axis_words(field: str) -> str:
    return (
        _FIELDS.get(field)
        or field.replace("_", " ").replace("center", "centre").replace("temp", "temperature").capitalize()
    )
