"""What run directories hold of a plan: the cells' numbers (metrics files) and how training went (``status.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino.errors import UserError
from dino.metrics import Measure, MetricsFile, read_metrics
from dino.running.progress import STATUS_NAME
from workflow.inputs.weights import is_weights_run

if TYPE_CHECKING:
    from workflow.inputs.studies import Study
    from workflow.planning.plan import Cell, PlannedRun


@dataclass(frozen=True)
class RunFacts:
    """A planned run and what its ``status.json`` says; fields that the file lacks keep their defaults."""

    run_id: str
    folder: Path
    seed: int | None = None
    out_dim: int | None = None
    """K, the number of prototypes: a uniform teacher's entropy is ln K."""
    status: str = "not started"
    step: int | None = None
    seconds: float = 0.0
    """Wall time of the pretraining, over all of its resumptions."""
    collapse: str = ""
    """What the watch named, in words; empty where nothing collapsed."""
    message: str = ""

    @property
    def unfinished(self) -> str:
        """Why a run has no metrics, as far as its own status tells."""
        if self.status == "failed":
            return f"failed: {self.message}" if self.message else "failed"
        return {"interrupted": f"interrupted at step {self.step}", "running": "still running"}.get(self.status, "")


@dataclass(frozen=True)
class Reading:
    """One cell of a plan with its number, or with why it has none."""

    cell: Cell
    measure: Measure | None = None
    chance: float | None = None
    """What guessing gives, where the protocol says it."""
    missing: str | None = None


def read_run(folder: Path, planned: PlannedRun | None = None) -> RunFacts:
    """What there is to know of a run; one that has not begun has the default status.

    Raises:
        UserError: Its status is there and cannot be read.
    """
    path, status = folder / STATUS_NAME, {}
    if path.is_file():
        try:
            status = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
        if not isinstance(status, dict):
            raise UserError(f"{path}: expected a mapping")
    config = None if planned is None else planned.config
    return RunFacts(
        run_id=folder.name,
        folder=folder,
        seed=None if config is None else config.seed,
        out_dim=None if config is None else config.out_dim,
        status=str(status.get("status", "not started")),
        step=status.get("step"),
        seconds=float(status.get("seconds") or 0.0),
        collapse=_in_words(status.get("collapse")),
        message=str(status.get("message") or ""),
    )


def read_cells(study: Study, cells: Iterable[Cell]) -> list[Reading]:
    """The cells of ``study`` in the order of variants, metrics and seeds.

    Raises:
        UserError: A metrics file is malformed or belongs to another run.
    """
    order = {name: position for position, name in enumerate(study.variants)}
    ordered = sorted(cells, key=lambda cell: (order[cell.variant], study.metrics.index(cell.metric), cell.seed))
    return [_read_cell(cell) for cell in ordered]


def files_of(readings: Iterable[Reading]) -> Mapping[Path, MetricsFile]:
    """The metrics files behind the numbers, each once, in order."""
    paths = dict.fromkeys(each.cell.file for each in readings if each.measure is not None)
    return {path: read_metrics(path) for path in paths if path is not None}


def _read_cell(cell: Cell) -> Reading:
    if cell.file is None or cell.missing is not None:
        return Reading(cell, missing=cell.missing)
    if not cell.file.is_file():
        return Reading(cell, missing="not yet")
    document = read_metrics(cell.file)
    run = None if cell.run_id is None or is_weights_run(cell.run_id) else cell.run_id
    if document.run_id != run:
        raise UserError(f"{cell.file}: it is of run {document.run_id}, not {run}; delete it and run snakemake again")
    name = cell.metric.split(".", 1)[1]
    if name not in document.metrics:  # a k beyond the training set, more blocks than there are, ...
        return Reading(cell, missing=f"this evaluation gave no {name} here")
    return Reading(cell, document.metrics[name], document.chance)


_COLLAPSES = {
    "uniform": "collapse to the uniform output (teacher entropy at ln K)",
    "one-hot": "collapse to one prototype (teacher entropy at 0)",
    "constant": "collapse to a constant output (the teacher's vectors have no spread)",
}


def _in_words(collapse: Any) -> str:
    """The watch's word for a collapse as people read it; an unknown word stands as it is."""
    return _COLLAPSES.get(str(collapse), str(collapse)) if collapse else ""
