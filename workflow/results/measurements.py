"""Read the metrics files of a plan's cells into one tidy frame: a row for each variant, metric and seed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino.errors import UserError
from workflow.inputs.weights import is_weights_run

if TYPE_CHECKING:
    from workflow.inputs.studies import Study
    from workflow.planning.plan import Cell

COLUMNS = [
    "study",
    "variant",
    "label",
    "metric",
    "seed",
    "value",
    "unit",
    "n",
    "error",
    "chance",
    "run_id",
    "path",
    "missing",
]
SCHEMA = 1


class Metric(BaseModel):
    """One number of a metrics file; ``n`` is the number of test samples behind a proportion."""

    model_config = ConfigDict(extra="ignore")

    value: Annotated[float, Field(allow_inf_nan=False)]
    unit: str = "%"
    n: Annotated[int, Field(ge=1)] | None = None
    error: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Its standard error where that is not the binomial one."""


class MetricsFile(BaseModel):
    """What tables and the report need of ``metrics/<protocol>.json`` (schema: docs/architecture.md)."""

    model_config = ConfigDict(extra="ignore")

    protocol: str
    metrics: dict[str, Metric]
    chance: float | None = None
    settings: dict[str, Any] = {}
    run_id: str | None
    seed: int | None = None
    data: dict[str, Any] = {}
    device: str = ""
    seconds: float = 0.0
    peak_memory_mib: float | None = None
    created: str = ""
    notes: list[str] = []
    versions: dict[str, str] = {}


@lru_cache(maxsize=4096)
def _read(path: Path, changed: int) -> MetricsFile:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: not readable as a metrics file ({error}); delete it and run snakemake again"
        ) from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise UserError(f"{path}: not a metrics file of schema {SCHEMA} (it says {schema!r}); delete it and run again")
    try:
        return MetricsFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: malformed metrics file: '{key}': {first['msg'].lower()}") from None


def read_metrics_file(path: Path) -> MetricsFile:
    """Read and check one metrics file; one that has not changed is read once.

    Raises:
        UserError: It cannot be read, is of another schema, or lacks or mistypes a field; the file is named.
    """
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        raise UserError(f"{path}: no such metrics file") from None
    return _read(path, changed)


def read_measurements(study: Study, cells: Iterable[Cell]) -> pd.DataFrame:
    """The cells of ``study`` as a tidy frame with `COLUMNS`, in the order of variants, metrics and seeds.

    A cell that was not run, or whose file does not exist yet, has no ``value`` and says why in ``missing``.

    Raises:
        UserError: A metrics file is malformed or belongs to another run.
    """
    order = {name: position for position, name in enumerate(study.variants)}
    rows = []
    for cell in sorted(cells, key=lambda cell: (order[cell.variant], study.metrics.index(cell.metric), cell.seed)):
        row: dict[str, Any] = {
            "study": study.name,
            "variant": cell.variant,
            "label": study.variants[cell.variant].label,
            "metric": cell.metric,
            "seed": cell.seed,
            "run_id": cell.run_id,
            "path": None if cell.file is None else str(cell.file),
            "missing": cell.missing,
        }
        if cell.file is not None and cell.missing is None:
            row |= _measured(cell.file, cell)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"seed": "int64", "value": "float64", "n": "Int64", "error": "float64", "chance": "float64"})


def _measured(path: Path, cell: Cell) -> dict[str, Any]:
    if not path.is_file():
        return {"missing": "not yet"}
    document = read_metrics_file(path)
    run = None if cell.run_id is None or is_weights_run(cell.run_id) else cell.run_id
    if document.run_id != run:
        raise UserError(f"{path}: it is of run {document.run_id}, not {run}; delete it and run snakemake again")
    name = cell.metric.split(".", 1)[1]
    if name not in document.metrics:  # a k beyond the training set, more blocks than there are, ...
        return {"missing": f"this evaluation gave no {name} here"}
    metric = document.metrics[name]
    facts = {"value": metric.value, "unit": metric.unit, "n": metric.n, "error": metric.error}
    return {**facts, "chance": document.chance}
