"""The metrics file that every protocol writes: all that a table cell needs (docs/architecture.md).

Built here, checked here and read here. Imports no torch.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import resource
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from dino import __version__
from dino.errors import UserError
from dino.files import write_json
from dino.protocols import PROTOCOLS

SCHEMA = 1
PACKAGES = ("torch", "torchvision", "timm", "numpy")

Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Measure(BaseModel):
    """One measured value."""

    value: Finite
    unit: str = "%"
    n: Annotated[int, Field(ge=1)] | None = None
    """Test samples behind a proportion; its standard error follows from it."""
    error: NonNegative | None = None
    """Its standard error where that is another (a difference on the same test images); left out of files where None."""

    @model_serializer(mode="wrap")
    def _without_empty_error(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        return values if values["error"] is not None else {name: values[name] for name in ("value", "unit", "n")}


class DataIdentity(BaseModel):
    """The data that a protocol ran on; None where a file from elsewhere does not say."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    digest: str | None = None
    """Of the training images."""
    test_digest: str | None = None
    train: Count | None = None
    test: Count | None = None
    classes: Count | None = None


class CheckpointIdentity(BaseModel):
    """The weights that a protocol ran on."""

    model_config = ConfigDict(extra="allow")

    path: str | None = None
    sha256: str | None = None
    key: str | None = None


class MetricsFile(BaseModel):
    """The document itself. Run id, fingerprint and seed are None where features or weights came from elsewhere."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: int = Field(alias="schema", default=SCHEMA)
    protocol: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    metrics: Annotated[dict[str, Measure], Field(min_length=1)]
    chance: NonNegative | None
    """Value of guessing, in the unit of the headline; None where it has no meaning."""
    settings: dict[str, Any]
    run_id: str | None
    fingerprint: str | None
    seed: int | None
    code_version: Annotated[int, Field(ge=1)]
    data: DataIdentity
    checkpoint: CheckpointIdentity
    device: str
    seconds: NonNegative
    peak_memory_mib: NonNegative | None
    peak_device_memory_mib: NonNegative | None = None
    created: datetime.datetime | None
    notes: list[str]
    versions: dict[str, str]


def percent(correct: int, total: int) -> Measure:
    """A proportion of ``total`` test samples, in %."""
    return Measure(value=100.0 * correct / total, unit="%", n=total)


def write_metrics(path: str | os.PathLike[str], document: MetricsFile) -> None:
    """Write ``document`` atomically.

    Raises:
        ValueError: A metric that its protocol does not declare, or one in another unit than declared.
    """
    check_declared(document)
    write_json(path, document.model_dump(mode="json", by_alias=True, exclude_unset=False))


def read_metrics(path: Path) -> MetricsFile:
    """Read and check a metrics file; one that has not changed is read once.

    Only protocol, metrics and run id must be there, and keys that nobody knows are passed over: a file of an older or
    a newer version, or from elsewhere, is still a number with its run.

    Raises:
        UserError: It cannot be read, is of another schema, or lacks or mistypes a key; the file is named.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from dino.metrics import read_metrics
        >>> metrics = {"top1": {"value": 71.2, "unit": "%"}}
        >>> document = {"schema": 1, "protocol": "knn", "run_id": None, "metrics": metrics}
        >>> _ = Path("knn.json").write_text(json.dumps(document))
        >>> read_metrics(Path("knn.json")).metrics["top1"].value
        71.2
    """
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        raise UserError(f"{path}: no such metrics file") from None
    return _read(path, changed)


# What a file that lacks these keys is taken to say. Who writes one has to say them all.
_UNSAID: dict[str, Any] = {
    **{"chance": None, "settings": {}, "fingerprint": None, "seed": None, "code_version": 1, "data": {}},
    **{"checkpoint": {}, "device": "", "seconds": 0.0, "peak_memory_mib": None, "created": None, "notes": []},
    "versions": {},
}


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
        return MetricsFile.model_validate(_UNSAID | document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: malformed metrics file: '{key}': {first['msg'].lower()}") from None


def check_declared(document: MetricsFile) -> None:
    """Hold a document to the table of protocols: tables, claims and hints know what stands there and nothing else.

    Raises:
        ValueError: A metric that its protocol does not declare, or one in another unit than declared.
    """
    protocol = PROTOCOLS[document.protocol]
    for name, measure in document.metrics.items():
        declared = protocol.find(name)
        if declared is None or declared.unit != measure.unit:
            raise ValueError(
                f"{document.protocol} writes the metric '{name}' in '{measure.unit}', which dino/protocols/__init__.py "
                f"declares {'not at all' if declared is None else f'in {declared.unit!r}'}"
            )


def created_now() -> datetime.datetime:
    """The present in UTC, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def package_versions() -> dict[str, str]:
    """Versions of what decides numbers, read from the installed packages' metadata without importing them."""
    found = {"dino": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def peak_device_memory_mib(device: str) -> float | None:
    """Largest memory that torch has allocated on a CUDA device so far, in MiB; None on CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
