"""How figures look, and how they are saved so that the same results give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl

from dino.files import atomic_path
from workflow.inputs.evaluations import evaluations, metric_words
from workflow.results.summary import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision, and in grey by the markers' shapes.
OURS = "#0072B2"
PAPER = "#4D4D4D"
COLLAPSED = "#D55E00"
RANDOM = "#009E73"
GUIDE = "#8A8A8A"
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
WIDTH = 7.2
"""Inches: the text width of a two-column page."""
FOOT = 0.18
"""Inches of the strip at the foot of a figure, where its provenance stands."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#5A5A5A",
    "axes.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "dino",
    "path.simplify": True,
}


@dataclass
class Drawing:
    """A figure without its title and legend."""

    figure: Figure
    entries: dict[str, Any]
    """What the legend names, with handles."""
    finish: Callable[[], None] = lambda: None
    """Called when title and legend have their places, and the panels theirs."""


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the project's style and without a display; leaves matplotlib's settings as they were."""
    import seaborn as sns

    settings: dict[Any, Any] = {**sns.axes_style("ticks"), **RC}
    with mpl.rc_context(settings):
        yield


def provenance(results: StudyResults) -> str:
    """One line that names what a figure was made of: the study's file, the runs and a digest of their fingerprints."""
    runs = sorted(run.run_id for row in results.rows for run in row.runs)
    unique = list(dict.fromkeys(runs))
    digest = hashlib.sha256(" ".join(unique).encode()).hexdigest()[:10]
    count = f"{len(unique)} run{'s' if len(unique) != 1 else ''}"
    return f"ablations/{results.study.path.name}; scale {results.scale.name}; {count}, digest {digest}"


def new_figure(height: float) -> Figure:
    """An empty figure of the page's width and ``height`` inches; the layout leaves a strip at its foot free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    foot = FOOT / height
    engine = ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - foot), w_pad=0.06, h_pad=0.05, wspace=0.02)
    figure = Figure(figsize=(WIDTH, height), layout=engine)
    FigureCanvasAgg(figure)
    return figure


def complete(drawing: Drawing, *, title: str) -> Figure:
    """The figure with its title and its legend, which stands under the panels and leaves room for the provenance."""
    figure, entries = drawing.figure, drawing.entries
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if entries:
        widest = max(map(len, entries))
        columns = max(1, min(len(entries), 6, int(112 / (widest + 6))))
        raise_by = FOOT * 72 / RC["legend.fontsize"]  # in units of the legend's font: above the strip
        handles, names = list(entries.values()), list(entries)
        figure.legend(
            handles, names, loc="outside lower left", ncols=columns, columnspacing=1.6, borderaxespad=raise_by
        )
    figure.draw_without_rendering()  # now the layout is final
    drawing.finish()
    return figure


def save(figure: Figure, stem: Path, *, title: str, results: StudyResults) -> list[Path]:
    """Save as ``<stem>.png`` and ``<stem>.pdf``, whole or not at all, with provenance and without dates inside."""
    figure.text(0.995, 0.05 / figure.get_figheight(), provenance(results), ha="right", fontsize=6, color="#777777")
    about = f"{provenance(results)}; runs: {' '.join(sorted(results.runs))}"
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Title": title, "Description": about, "Software": None},
        "pdf": {"Title": title, "Subject": about, "Creator": None, "Producer": None, "CreationDate": None},
    }
    paths = []
    for suffix, entries in metadata.items():
        paths.append(stem.with_name(f"{stem.name}.{suffix}"))
        with atomic_path(paths[-1]) as temporary:
            figure.savefig(temporary, metadata=entries)
    return paths


def plain_spines(axes: Axes, *, keep: Sequence[str] = ("left", "bottom")) -> None:
    """Only the sides in ``keep`` have a line; grids lie under what is drawn."""
    axes.set_axisbelow(True)
    for side in ("left", "bottom", "top", "right"):
        axes.spines[side].set_visible(side in keep)


def say(axes: Axes, text: str) -> None:
    """Why a panel is empty, in its middle."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GUIDE, style="italic", transform=axes.transAxes)


def draw_error(
    axes: Axes, place: tuple[float, float], error: float | None, *, along: Literal["x", "y"], colour: str
) -> None:
    """An error bar of ``error`` on either side of ``place``; nothing where there is none."""
    if error:
        width = {f"{along}err": error}
        axes.errorbar(*place, **width, fmt="none", ecolor=colour, elinewidth=1.2, capsize=2.0, zorder=3)  # type: ignore[arg-type]


def split_words(metric: str) -> tuple[str, str]:
    """A metric's evaluation and the rest of its words: ``fine-tuning, CIFAR-10`` and ``top-1 (%)``."""
    name, _, rest = metric.partition(".")
    evaluation = evaluations().get(name)
    if name == "mean":
        return "Mean", evaluations()[rest].shown if rest in evaluations() else rest.replace("_", " ")
    if evaluation is None or not evaluation.shown:
        return "", capital(metric_words(metric))
    return capital(evaluation.shown), evaluation.kind.words(rest)


def capital(text: str) -> str:
    """With a capital letter, but for k-NN."""
    return text if text.startswith("k-NN") else text[:1].upper() + text[1:]


def panel_titles(results: StudyResults) -> tuple[str, str]:
    """Titles of the two panels: ours with the data it was measured on, and the paper's."""
    names = dict.fromkeys(line.split(" (")[0] for line in results.data)
    return f"This run ({', '.join([results.scale.name, *names])})", "Paper (ImageNet)"
