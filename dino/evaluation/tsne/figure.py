"""Classes in the plane as a figure whose labels do not cover each other (Fig. 11)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.errors import UserError
from dino.evaluation.tsne.embedding import Embedding
from dino.files import atomic_path

DOT, TEXT, LINE = "#0072B2", "#222222", "#B0B0B0"
LONGEST = 32
"""Letters of a label; longer names are cut."""
FORMATS = (".png", ".pdf", ".svg")


def draw_embedding(embedding: Embedding, target: Path, *, title: str, foot: str = "") -> int:
    """Write the figure atomically, in the format of its extension.

    Args:
        embedding: Names and points.
        target: The figure.
        title: Stands above it.
        foot: Where it is from, in small print below.

    Returns:
        The number of labels left out because they would have covered others.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(embedding.names)
    side = min(24.0, max(6.0, 0.75 * math.sqrt(count)))  # inches
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "dino", "pdf.fonttype": 42}):
        figure = Figure(figsize=(side, side), dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.02, 0.04, 0.96, 0.92))
        axes.set_title(title, fontsize=max(10.0, 0.9 * side), loc="left", color=TEXT)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        x, y = embedding.points.T
        axes.scatter(x, y, s=14 if count <= 200 else 8, color=DOT, linewidths=0, zorder=3)
        axes.margins(0.08, 0.05)
        axes.autoscale_view()
        left_out = _label(axes, embedding)
        hidden = f"{left_out} of {count} labels left out: they would cover others" if left_out else ""
        figure.text(0.02, 0.012, "; ".join(filter(None, (foot, hidden))), fontsize=7, color="#777777")
        with atomic_path(target) as temporary:
            metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
            figure.savefig(temporary, metadata=metadata[target.suffix.lower()])
    return left_out


def check_format(target: Path) -> None:
    """Refuse a figure that cannot be written.

    Raises:
        UserError: Its extension is none of those known.
    """
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"--output {target}: unknown kind of picture; use {', '.join(FORMATS)}")


def _label(axes: Any, embedding: Embedding) -> int:
    """Put every name at the nearest free place around its dot; returns how many found none."""
    size = 8.0 if len(embedding.names) <= 60 else 6.0
    renderer = axes.figure.canvas.get_renderer()
    dots = axes.transData.transform(embedding.points)  # pixels
    pixels = axes.figure.dpi / 72
    boxes = np.concatenate([dots - 2.5 * pixels, dots + 2.5 * pixels], axis=1)  # left, bottom, right, top
    frame = axes.get_window_extent(renderer)
    to_axes = axes.transAxes.inverted()  # places are found in pixels, and hold at any resolution
    left_out = 0
    # Crowded dots choose first: the others find a place anyway.
    for index in np.argsort(_nearest_distances(dots), kind="stable"):
        name = embedding.names[index]
        name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        text = axes.text(
            0.5, 0.5, name, fontsize=size, color=TEXT, zorder=4, transform=axes.transAxes, va="center", ha="center"
        )
        extent = text.get_window_extent(renderer)
        size_with_margin = np.array([extent.width + 3 * pixels, extent.height])
        place = _free_place(dots[index], size_with_margin, np.delete(boxes, index, axis=0), pixels, frame)
        if place is None:
            text.remove()
            left_out += 1
            continue
        middle, far = place
        text.set_position(tuple(to_axes.transform(middle)))
        half = size_with_margin / 2
        boxes = np.concatenate([boxes, np.concatenate([middle - half, middle + half])[None]])
        if far:
            ends = np.stack([dots[index], np.clip(dots[index], middle - half, middle + half)])
            axes.plot(*to_axes.transform(ends).T, color=LINE, linewidth=0.6, transform=axes.transAxes, zorder=2)
    return left_out


def _free_place(
    dot: NDArray[np.float64], size: NDArray[np.float64], boxes: NDArray[np.float64], pixels: float, frame: Any
) -> tuple[NDArray[np.float64], bool] | None:
    """The middle of a label near ``dot`` that covers none of ``boxes``, and whether it needs a line to its dot."""
    for ring in range(6):
        gap = (4 + 7 * ring) * pixels
        for angle in np.arange(12) * np.pi / 6:
            direction = np.array([np.cos(angle), np.sin(angle)])
            middle = dot + direction * (gap + np.abs(direction) * size / 2)
            (left, bottom), (right, top) = middle - size / 2, middle + size / 2
            if left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1:
                continue
            covered = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
            if not covered.any():
                return middle, ring >= 2
    return None


def _nearest_distances(dots: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    distances: NDArray[np.float64] = cKDTree(dots).query(dots, k=2)[0][:, 1]
    return distances
