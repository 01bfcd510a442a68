"""The metrics file that every protocol writes: all that a table cell needs (docs/architecture.md).

Built here, checked here, and read by the workflow. Imports no torch.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import resource
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from dino import __version__
from dino.config import explain_validation
from dino.errors import UserError
from dino.files import write_json

PACKAGES = ("torch", "torchvision", "timm", "numpy")

Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Measure(BaseModel):
    """One measured value."""

    model_config = ConfigDict(extra="forbid")

    value: Finite
    unit: str
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

    name: str | None
    digest: str | None
    """Of the training images."""
    test_digest: str | None = None
    train: Count | None = None
    test: Count | None = None
    classes: Count | None = None


class CheckpointIdentity(BaseModel):
    """The weights that a protocol ran on."""

    model_config = ConfigDict(extra="allow")

    path: str | None
    sha256: str | None
    key: str | None


class MetricsFile(BaseModel):
    """The document itself. Run id, fingerprint and seed are None where features or weights came from elsewhere."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema", default=1)
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
    peak_memory_mib: NonNegative
    peak_device_memory_mib: NonNegative | None = None
    created: datetime.datetime
    notes: list[str]
    versions: dict[str, str]


def percent(correct: int, total: int) -> Measure:
    """A proportion of ``total`` test samples, in %."""
    return Measure(value=100.0 * correct / total, unit="%", n=total)


def write_metrics(path: str | os.PathLike[str], document: MetricsFile) -> None:
    """Write ``document`` atomically."""
    write_json(path, document.model_dump(mode="json", by_alias=True, exclude_unset=False))


def validate_metrics(document: Any, *, where: str | Path = "metrics file") -> MetricsFile:
    """Check a read document against the schema.

    Raises:
        UserError: Names ``where`` and the first wrong key.
    """
    if not isinstance(document, dict):
        raise UserError(f"{where}: expected a mapping of metrics keys")
    try:
        return MetricsFile.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{where}: {explain_validation(error, MetricsFile)}") from None


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
