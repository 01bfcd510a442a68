"""Names beside points, where no other name, point or border is in the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation, Text
    from matplotlib.transforms import Bbox

CROSSED = 1.5
"""What each place of a line under a name costs, in square pixels of another name or point hidden."""

# Offsets in points with the alignment that goes with them, the nearest and most usual first.
_PLACES: tuple[tuple[float, float, str, str], ...] = (
    (7, 0, "left", "center"),
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
    (-7, 0, "right", "center"),
    *((x, y, "left" if x > 0 else "right", "bottom" if y > 0 else "top") for x in (5, -5) for y in (5, -5)),
    *((x, y, "center", "bottom" if y > 0 else "top") for y in (16, -16, 27, -27, 38, -38) for x in (0, 24, -24)),
)


def name_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write names (x, y, name) beside their points; a name that must go far gets a line to its point.

    The figure's layout must be final: call it after a drawing. Texts, marks and lines that the axes have are avoided.
    """
    from matplotlib.patheffects import withStroke

    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    marks = [_around(axes, x, y) for x, y, _ in points]
    texts = [_extent(text, renderer) for text in axes.texts]
    frame, taken, lines = axes.get_window_extent(renderer), [*marks, *texts, *_marks(axes)], _along_lines(axes)
    for (x, y, name), mark in zip(points, marks, strict=True):
        others = [box for box in taken if _shared(box, mark) < 0.9 * mark.width * mark.height]
        best: tuple[float, Annotation, Bbox] | None = None
        for order, (dx, dy, ha, va) in enumerate(_PLACES):
            far = max(abs(dx), abs(dy)) > 8
            line: dict[str, Any] = {"arrowstyle": "-", "color": "#8A8A8A", "linewidth": 0.6, "shrinkB": 3}
            text = axes.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=7.5,
                color="#222222",
                arrowprops=line if far else None,
                path_effects=[withStroke(linewidth=2.0, foreground="white", alpha=0.8)],
                zorder=5,
            )
            box = _extent(text, renderer)
            hidden = sum(_shared(box, other) for other in others) + 2 * (box.width * box.height - _shared(box, frame))
            crossed = _inside(box, lines)
            cost = hidden + CROSSED * crossed + 0.5 * order
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
            if hidden <= 0 and not crossed:
                break
        assert best is not None
        best[1].set_in_layout(False)
        taken.append(best[2].padded(2.0))


def _marks(axes: Axes) -> list[Bbox]:
    """The places of all marks that the axes have."""
    marked = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    return [_around(axes, float(x), float(y)) for line in marked for x, y in np.asarray(line.get_xydata(), dtype=float)]


def _along_lines(axes: Axes) -> NDArray[np.float64]:
    """Places (n, 2) along the lines of the axes, in pixels."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        data = np.asarray(line.get_xydata(), dtype=float)
        if line.get_linestyle() not in ("None", "") and len(data) > 1:
            corners = axes.transData.transform(data)
            shares = np.linspace(0, 1, 40)[:, None]
            found += [start + shares * (end - start) for start, end in pairwise(corners)]
    return np.concatenate(found)


def _around(axes: Axes, x: float, y: float, radius: float = 5.0) -> Bbox:
    from matplotlib.transforms import Bbox

    left, bottom = axes.transData.transform((x, y))
    pixels = radius * axes.figure.dpi / 72
    return Bbox.from_extents(left - pixels, bottom - pixels, left + pixels, bottom + pixels)


def _inside(box: Bbox, places: NDArray[np.float64]) -> int:
    x, y = places.T
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def _extent(text: Text, renderer: Any) -> Bbox:
    """The text's own box: an annotation's includes its line."""
    from matplotlib.text import Annotation, Text

    if isinstance(text, Annotation):
        text.update_positions(renderer)
    return Text.get_window_extent(text, renderer).padded(1.0)


def _shared(first: Bbox, second: Bbox) -> float:
    """The area that two boxes have in common."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return max(0.0, width) * max(0.0, height)
