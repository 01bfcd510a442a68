"""What a figure shows, for tests: its texts, and those that cover each other."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts_of(axes: Axes) -> list[str]:
    """What is written inside a panel."""
    return [text.get_text() for text in axes.texts]


def covered(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of the whole figure that lie on each other, and texts that lie beyond its border."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts: list[Text] = [figure._suptitle] if figure._suptitle else []  # type: ignore[attr-defined]
    for axes in figure.axes:
        if axes.get_visible():
            ticks = [
                label for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels() if _inside(label, axes)
            ]
            titles = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]  # type: ignore[attr-defined]
            texts += [*axes.texts, *ticks, *titles]
    for legend in figure.legends:
        texts += legend.get_texts()
    # Text's own extent: an annotation's includes its pointer.
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts if _shown(text)]
    pairs = [(one, two) for (one, first), (two, second) in combinations(boxes, 2) if first.overlaps(second)]
    width, height = figure.get_size_inches() * figure.dpi
    outside = [
        (text, "border") for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    return pairs + outside


def _shown(text: Text) -> bool:
    return bool(text.get_text().strip()) and text.get_visible()


def _inside(label: Text, axes: Axes) -> bool:
    """Whether a tick's label is drawn: ticks beyond the limits exist and are not."""
    if not label.get_text():
        return False
    x, y = label.get_position()
    low, high = sorted(axes.get_xlim()) if label in axes.xaxis.get_ticklabels() else sorted(axes.get_ylim())
    place = x if label in axes.xaxis.get_ticklabels() else y
    switched_on = (axes.xaxis if label in axes.xaxis.get_ticklabels() else axes.yaxis).get_tick_params()
    side = "labelbottom" if label in axes.xaxis.get_ticklabels() else "labelleft"
    return low <= place <= high and bool(switched_on.get(side, True))
