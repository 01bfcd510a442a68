"""Training curves of a study from its runs' journals: loss, teacher entropy (with ln K) and KL, to see collapses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from workflow.results.runs import CURVES, RunFacts, read_curves
from workflow.results.style import DASHES, GUIDE, SERIES, figure_style, legend_below, new_figure, save
from workflow.results.summary import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

TITLES = {"loss": "Loss", "teacher_entropy": "Teacher entropy (nats)", "kl": "KL(teacher, student) (nats)"}


def draw_curves(results: StudyResults, folder: Path) -> list[Path]:
    """Draw ``<study>-curves.png`` and ``.pdf`` into ``folder``: a panel a quantity, a colour a variant, a line a seed.

    Raises:
        UserError: A journal is malformed.
    """
    study = results.study
    rows = [row for row in results.rows_of(study.metrics[0]) if row.planned and not row.random]
    with figure_style():
        figure = new_figure(3.05)
        panels = figure.subplots(1, len(CURVES))
        entries: dict[str, Line2D] = {}
        for index, row in enumerate(rows):
            drawn = [_draw_run(panels, run, index) for run in row.planned]
            first = next((line for line in drawn if line is not None), None)
            if first is not None:
                entries[f"{row.variant.label}{' (collapsed)' if row.collapsed else ''}"] = first
        for axes, quantity in zip(panels, CURVES, strict=True):
            axes.set_title(TITLES[quantity])
            axes.set_xlabel("Epoch")
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            if not entries:
                axes.text(0.5, 0.5, "no journal yet", ha="center", va="center", color=GUIDE, transform=axes.transAxes)
            axes.set_ylim(bottom=0)
            axes.margins(x=0.01)
            axes.set_xlim(left=0)
        uniform = sorted({run.out_dim for row in rows for run in row.planned if run.out_dim})
        _mark_uniform(panels, uniform if entries else [])
        figure.suptitle(f"{study.title}: training", x=0.01, ha="left", fontsize=11, fontweight="bold")
        columns = min(len(entries), 4 if max(map(len, entries), default=0) > 18 else 6)
        legend_below(figure, entries, columns=columns)
        return save(figure, folder / f"{study.name}-curves", title=f"{study.title}: training", results=results)


def _draw_run(panels: list[Axes], run: RunFacts, index: int) -> Line2D | None:
    """One run's curves in the colour and dashes of its variant; its first line, for the legend."""
    points = read_curves(run.folder)
    first = None
    for axes, quantity in zip(panels, CURVES, strict=True):
        known = [(point["epoch"], point[quantity]) for point in points if quantity in point]
        if not known:
            continue
        (line,) = axes.plot(
            [epoch for epoch, _ in known],
            [value for _, value in known],
            color=SERIES[index % len(SERIES)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.3 if run.seed in (0, None) else 0.7,
            alpha=0.9,
        )
        first = first or line
    return first


def _mark_uniform(panels: list[Axes], sizes: list[int]) -> None:
    """A line at ln K in the entropy panel (a uniform teacher), and at ln K in the loss (a uniform student, too)."""
    for axes, quantity in zip(panels, CURVES, strict=True):
        if quantity == "kl":
            continue
        for size in sizes:
            axes.axhline(math.log(size), color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0, zorder=1)
            axes.annotate(
                f"ln K = {math.log(size):.2f}",
                (1.0, math.log(size)),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=7,
                color="#666666",
            )
        if sizes:
            axes.set_ylim(top=max(axes.get_ylim()[1], 1.12 * math.log(sizes[-1])))
