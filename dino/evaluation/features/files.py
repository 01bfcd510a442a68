"""Feature files (`features-*.npz`): features, labels, paths, and what made them. Imports no torch.

A file from elsewhere needs `features` and `labels` only; what it does not say about itself stays None. Labels are class
indices, or for multi-label sets a table of 1 (present), 0 (absent) and -1 (not judged: VOC's difficult objects).
"""

from __future__ import annotations

import datetime
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dino.errors import UserError, explain_validation
from dino.evaluation.runtime import device_name
from dino.files import atomic_path
from dino.metrics import (
    CheckpointIdentity,
    created_now,
    package_versions,
    peak_device_memory_mib,
    peak_memory_mib,
)

if TYPE_CHECKING:
    import torch


class Preprocessing(BaseModel):
    """What the images went through (paper.md, C.1): short side to ``resize`` (bicubic), then a centre crop of
    ``image_size``."""

    model_config = ConfigDict(extra="forbid")

    image_size: int
    resize: int
    precision: str


class FeatureData(BaseModel):
    """The images that were used."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str
    """Of a generated set's settings; empty for others."""
    digest: str
    """Of the split's files."""
    split: str
    classes: list[str]
    images: int
    """Listed, with those that were skipped as unreadable."""


class FeatureMeta(BaseModel):
    """What made a feature file; every field is None in a file from elsewhere."""

    model_config = ConfigDict(extra="ignore")

    run_id: str | None = None
    fingerprint: str | None = None
    seed: int | None = None
    code_version: int | None = None
    checkpoint: CheckpointIdentity | None = None
    model: dict[str, Any] | None = None
    data: FeatureData | None = None
    preprocessing: Preprocessing | None = None
    skipped: list[str] = []
    device: str | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None
    peak_device_memory_mib: float | None = None
    created: datetime.datetime | None = None
    versions: dict[str, str] = {}

    def measured(self, *, skipped: list[str], device: torch.device, started: float) -> FeatureMeta:
        """The same with what making the features took, from ``started`` (``time.perf_counter()``) to now."""
        found = {
            "skipped": skipped,
            "device": device_name(device),
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mib": peak_memory_mib(),
            "peak_device_memory_mib": peak_device_memory_mib(str(device)),
            "created": created_now(),
            "versions": package_versions(),
        }
        return self.model_copy(update=found)

    def made_from(self) -> tuple[Any, ...]:
        """What decides the features; files that agree in it need not be made again."""
        checkpoint = self.checkpoint and (self.checkpoint.sha256, self.checkpoint.key)
        return self.code_version, self.fingerprint, self.seed, checkpoint, self.model, self.data, self.preprocessing


@dataclass(frozen=True)
class FeatureSet:
    """Features of one split."""

    features: np.ndarray
    """(N, D) float32, not normalised."""
    labels: np.ndarray
    """(N,) int64; of a multi-label set (N, C) int8: 1, 0 or -1."""
    meta: FeatureMeta
    paths: np.ndarray | None = None
    """(N,) str, of the images; None where they were not asked for or the file has none."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may show several classes."""
        return self.labels.ndim == 2

    def select(self, rows: np.ndarray) -> FeatureSet:
        """The same with these rows only."""
        paths = None if self.paths is None else self.paths[rows]
        return FeatureSet(self.features[rows], self.labels[rows], self.meta, paths)


def write_features(
    target: str | os.PathLike[str], *, features: np.ndarray, labels: np.ndarray, paths: list[str], meta: FeatureMeta
) -> None:
    """Write a feature file atomically and uncompressed: floats do not compress, and reading stays fast."""
    with atomic_path(target) as temporary:
        np.savez(
            temporary,
            features=np.ascontiguousarray(features, dtype=np.float32),
            labels=np.asarray(labels, dtype=np.int64 if labels.ndim == 1 else np.int8),
            paths=np.asarray(paths, dtype=np.str_),
            meta=np.asarray(meta.model_dump_json()),
        )


def read_meta(path: str | os.PathLike[str]) -> FeatureMeta:
    """What made the file ``path``, without reading the features.

    Raises:
        UserError: No such file, or not a feature file.
    """
    with _open(path) as archive:
        return _meta(archive, path)


def read_features(path: str | os.PathLike[str], *, with_paths: bool = False) -> FeatureSet:
    """Read and check a feature file; its paths are left unread unless asked for.

    Raises:
        UserError: Missing or damaged, without features or labels, of wrong shapes, empty, or with values that are not
            finite.
    """
    with _open(path) as archive:
        features, labels = (_array(archive, name, path) for name in ("features", "labels"))
        paths = _array(archive, "paths", path) if with_paths and "paths" in archive.files else None
        meta = _meta(archive, path)
    if features.ndim != 2 or labels.ndim not in (1, 2) or len(labels) != len(features):
        raise UserError(
            f"{path}: features of shape {features.shape} and labels of shape {labels.shape}; expected (N, D) and (N,), "
            "or (N, classes) for several labels an image"
        )
    if paths is not None and paths.shape != labels.shape[:1]:
        raise UserError(f"{path}: {len(labels)} features but paths of shape {paths.shape}")
    if not np.issubdtype(features.dtype, np.floating):
        raise UserError(f"{path}: features of type {features.dtype}; expected floating point numbers")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: labels of type {labels.dtype}; expected class indices")
    if 0 in labels.shape or features.shape[1] == 0:
        raise UserError(f"{path}: it holds no features (shape {features.shape})")
    if labels.ndim == 1 and labels.min() < 0:
        raise UserError(f"{path}: negative label {labels.min()}; class indices count from 0")
    if labels.ndim == 2 and not np.isin(labels, (-1, 0, 1)).all():
        raise UserError(f"{path}: a table of labels may hold 1 (present), 0 (absent) and -1 (not judged) only")
    broken = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
    if broken:
        raise UserError(
            f"{path}: {broken} of {len(features)} features are not finite numbers; the network that made them has "
            "diverged or overflowed (try --precision fp32)"
        )
    labels = labels.astype(np.int64 if labels.ndim == 1 else np.int8, copy=False)
    return FeatureSet(np.ascontiguousarray(features, dtype=np.float32), labels, meta, paths)


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such feature file") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a feature file (.npz): {error}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UserError(f"{path}: a single array; expected an .npz with 'features' and 'labels'")
    return archive


def _array(archive: Any, name: str, path: str | os.PathLike[str]) -> np.ndarray:
    if name not in archive.files:
        raise UserError(f"{path}: no array '{name}' in it (found: {', '.join(archive.files) or 'none'})")
    try:
        array: np.ndarray = archive[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: the array '{name}' cannot be read: {error}") from None
    return array


def _meta(archive: Any, path: str | os.PathLike[str]) -> FeatureMeta:
    if "meta" not in archive.files:
        return FeatureMeta()
    text = str(_array(archive, "meta", path))
    try:
        return FeatureMeta.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path}: its 'meta' is broken: {explain_validation(error, FeatureMeta)}") from None


def default_name(folder: str | os.PathLike[str], dataset: str, split: str) -> Path:
    """Where a run keeps the features of one split: ``features-<dataset>-<split>.npz``."""
    return Path(folder) / f"features-{Path(dataset).absolute().name}-{split}.npz"
