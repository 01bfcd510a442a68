"""Quantities over the epochs of a study's runs: of their journals (Fig. 7), or of evaluations of snapshots (Fig. 6)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dino.metrics import MetricsFile
from dino.running.journal import read
from workflow.inputs.evaluations import evaluations
from workflow.results.figures.style import DASHES, GUIDE, SERIES, Drawing, capital, new_figure, plain_spines, say
from workflow.results.runs import RunFacts
from workflow.results.summary import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JOURNAL = "pretrain."
TITLES = {"loss": "Loss", "teacher_entropy": "Teacher entropy (nats)", "kl": "KL(teacher, student) (nats)"}
COLUMNS = 3
Line = list[tuple[float, float]]
"""(epoch, value), in order."""


def compose_epochs(results: StudyResults) -> Drawing:
    """Of the journal a panel for each quantity, with a line a run; of an evaluation one for each variant."""
    names = results.study.figure.y or []
    if names[0].startswith(JOURNAL):
        return compose_journals(results, [name.removeprefix(JOURNAL) for name in names])
    return _compose_series(results, names)


# --- journals --------------------------------------------------------------------------------------------------------


def compose_journals(results: StudyResults, quantities: list[str]) -> Drawing:
    """A panel a quantity, a colour a variant, a line a seed; ln K is marked where a collapse would go.

    Raises:
        UserError: A journal is malformed.
    """
    rows = list({row.name: row for row in results.rows if row.planned and not row.random}.values())
    figure = new_figure(3.05)
    panels = list(figure.subplots(1, len(quantities), squeeze=False)[0])
    entries: dict[str, Any] = {}
    for index, row in enumerate(rows):
        drawn = [_draw_run(panels, quantities, run, index) for run in row.planned]
        first = next((line for line in drawn if line is not None), None)
        if first is not None:
            entries[f"{row.variant.label}{' (collapsed)' if row.collapsed else ''}"] = first
    for axes, quantity in zip(panels, quantities, strict=True):
        axes.set_title(TITLES[quantity])
        axes.set_xlabel("Epoch")
        axes.grid(axis="y")
        plain_spines(axes)
        if not entries:
            say(axes, "no journal yet")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.set_xlim(left=0)
    sizes = sorted({run.out_dim for row in rows for run in row.planned if run.out_dim})
    _mark_uniform(panels, quantities, sizes if entries else [])
    return Drawing(figure, entries)


def _draw_run(panels: list[Axes], quantities: list[str], run: RunFacts, index: int) -> Any:
    """One run's curves in the colour and dashes of its variant; its first line, for the legend."""
    records = read(run.folder)
    first = None
    for axes, quantity in zip(panels, quantities, strict=True):
        known = [(record.epoch, record.metrics[quantity]) for record in records if quantity in record.metrics]
        if known:
            line = _draw_line(axes, known, index, main=run.seed in (0, None))
            first = first or line
    return first


def _draw_line(axes: Axes, line: Line, index: int, *, main: bool, marker: str = "") -> Any:
    (drawn,) = axes.plot(
        [epoch for epoch, _ in line],
        [value for _, value in line],
        color=SERIES[index % len(SERIES)],
        linestyle=DASHES[index % len(DASHES)],
        linewidth=1.3 if main else 0.7,
        marker=marker if main else "",
        markersize=4,
        alpha=0.9,
    )
    return drawn


def _mark_uniform(panels: list[Axes], quantities: list[str], sizes: list[int]) -> None:
    """A line at ln K in the entropy panel (a uniform teacher), and at ln K in the loss (a uniform student, too)."""
    for axes, quantity in zip(panels, quantities, strict=True):
        if quantity == "kl" or not sizes:
            continue
        top = max(axes.get_ylim()[1], 1.12 * math.log(sizes[-1]))
        axes.set_ylim(top=top)
        named = math.inf
        for level in sorted(map(math.log, sizes), reverse=True):
            axes.axhline(level, color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.0, zorder=1)
            if named - level < 0.08 * top:  # its name would lie on that of the line above
                continue
            named = level
            axes.annotate(
                f"ln K = {level:.2f}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=7,
                color="#666666",
            )


# --- evaluations of snapshots ----------------------------------------------------------------------------------------


def _compose_series(results: StudyResults, names: list[str]) -> Drawing:
    variants = list(dict.fromkeys(row.name for row in results.rows if not row.variant.quoted))
    columns = min(COLUMNS, len(variants))
    lines = math.ceil(len(variants) / columns)
    figure = new_figure(2.7 * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    entries: dict[str, Any] = {}
    for index, axes in enumerate(panels.flat):
        if index >= len(variants):
            axes.set_visible(False)
            continue
        plain_spines(axes)
        axes.grid(axis="y")
        axes.set_title(results.study.variants[variants[index]].label)
        axes.set_xlabel("Epoch")
        for order, name in enumerate(names):
            for seed, line in series(results, variants[index], name):
                drawn = _draw_line(axes, line, order, main=seed == 0, marker="o" if len(line) < 30 else "")
                entries.setdefault(capital(_words(name)[0]), drawn)
        if axes.lines:
            axes.set_xlim(left=0)
            axes.margins(y=0.12)
        else:
            say(axes, _missing(results, variants[index]))
        if index % columns == 0:
            axes.set_ylabel(capital(_words(names[0])[1]))
    return Drawing(figure, entries)


def series(results: StudyResults, variant: str, name: str) -> Iterable[tuple[int, Line]]:
    """For each seed of a variant: the values of ``name`` (``knn_curve.teacher_eK``) by their epoch K."""
    evaluation, _, metric = name.partition(".")
    pattern = re.compile(metric.replace("K", r"(\d+)"))
    files: dict[int, MetricsFile] = {}
    for cell in (each.cell for each in results.readings):
        file = results.files.get(cell.file) if cell.file else None
        if file and cell.variant == variant and cell.metric.startswith(f"{evaluation}."):
            files.setdefault(cell.seed, file)
    for seed, file in sorted(files.items()):
        found = [(pattern.fullmatch(key), measure.value) for key, measure in file.metrics.items()]
        line = sorted((float(match[1]), value) for match, value in found if match)
        if line:
            yield seed, line


def _words(name: str) -> tuple[str, str]:
    """What a line is, and what its axis shows: ``teacher`` and ``k-NN top-1 (%)``."""
    evaluation, _, metric = name.partition(".")
    kind = evaluations()[evaluation].kind
    what, unit = kind.metrics[metric].words.split(", ")[:2]
    return what, f"{kind.title.split(',')[0]} {unit}"


def _missing(results: StudyResults, variant: str) -> str:
    reasons = [row.row.missing for row in results.rows if row.name == variant and row.row.missing]
    return "not run" if any(reasons) else "not yet"
