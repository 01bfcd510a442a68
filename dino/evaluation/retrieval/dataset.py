"""The Revisited Oxford and Paris data sets: ``jpg/*.jpg`` and a ground truth ``gnd_<name>.pkl`` (paper.md, C.5)."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.data.plain_pickle import PlainArray, load_plain_pickle
from dino.errors import UserError
from dino.evaluation.data_folders import find_data_folder

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the stored image."""

LISTS = ("easy", "hard", "junk")


@dataclass(frozen=True)
class GroundTruth:
    """What a ground-truth file says."""

    database: list[str]
    """Names without ``.jpg``."""
    queries: list[str]
    boxes: list[Box] | None
    """Of the queries; None where the file has none."""
    lists: list[dict[str, NDArray[np.int64]]]
    """For each query its `LISTS`, as indices into ``database``."""


@dataclass(frozen=True, kw_only=True)
class RevisitedSet:
    """A data set that is all there."""

    name: str
    """Of the registry, or the folder's."""
    benchmark: str
    """The ground truth's own name, ``roxford5k`` or ``rparis6k`` for the published ones."""
    root: Path
    """The folder of the images; their paths are ``<name>.jpg`` in it."""
    truth: GroundTruth
    truth_digest: str
    """Sixteen hex digits of the ground-truth file's bytes."""
    version: str = ""
    """Of a generated set."""

    @property
    def database_paths(self) -> list[str]:
        """The database's files, relative to ``root``."""
        return [f"{name}.jpg" for name in self.truth.database]

    @property
    def query_paths(self) -> list[str]:
        """The queries' files, relative to ``root``."""
        return [f"{name}.jpg" for name in self.truth.queries]


def read_revisited(name_or_folder: str | Path, *, benchmark: str | None = None) -> RevisitedSet:
    """Read and check a data set.

    Args:
        name_or_folder: A registered set, a folder that holds ``jpg/`` and ``gnd_<benchmark>.pkl``, or one that holds
            such folders named as their benchmarks.
        benchmark: Which one, where the folder does not say.

    Raises:
        UserError: No such set, no or several ground truths, a wrong one, or images that it names are missing.
    """
    folder = find_data_folder(name_or_folder, layout="revisited")
    path = _find_ground_truth(folder.root, benchmark)
    truth = read_ground_truth(path)
    images = path.parent / "jpg"
    _require_images(images, truth, path)
    return RevisitedSet(
        name=folder.name if path.parent == folder.root else path.parent.name,
        benchmark=path.stem.removeprefix("gnd_"),
        root=images,
        truth=truth,
        truth_digest=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        version=folder.version,
    )


def read_ground_truth(path: Path) -> GroundTruth:
    """Read ``gnd_<name>.pkl``, of which nothing is executed, and check every part of it.

    Raises:
        UserError: The file cannot be read, or is no such ground truth; says what is wrong.
    """
    document = load_plain_pickle(path)
    if not isinstance(document, dict) or not {"imlist", "qimlist", "gnd"} <= document.keys():
        raise UserError(f"{path} is no ground truth of this format: expected a dict with imlist, qimlist and gnd")
    database, queries = (_names(document[key], f"{path}: {key}") for key in ("imlist", "qimlist"))
    entries = _plain(document["gnd"])
    if not isinstance(entries, list) or len(entries) != len(queries):
        count = len(entries) if isinstance(entries, list) else "no list of"
        raise UserError(f"{path}: {count} entries in gnd for {len(queries)} queries in qimlist")
    lists, boxes = [], []
    for query, entry in zip(queries, entries, strict=True):
        where = f"{path}: query '{query}'"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected a dict of easy, hard, junk and bbx")
        lists.append(_index_lists(entry, len(database), where))
        if "bbx" in entry:
            boxes.append(_box(entry["bbx"], where))
    if boxes and len(boxes) < len(queries):
        raise UserError(f"{path}: only {len(boxes)} of {len(queries)} queries have a box (bbx)")
    return GroundTruth(database=database, queries=queries, boxes=boxes or None, lists=lists)


def _find_ground_truth(root: Path, benchmark: str | None) -> Path:
    if benchmark is not None:
        name = f"gnd_{benchmark}.pkl"
        for path in (root / name, root / benchmark / name):
            if path.is_file():
                return path
        raise UserError(f"{root} has neither {name} nor {benchmark}/{name}; it has {_present(root)}")
    here = sorted(root.glob("gnd_*.pkl"))
    found = here or sorted(path for path in root.glob("*/gnd_*.pkl") if path.stem == f"gnd_{path.parent.name}")
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.stem.removeprefix("gnd_") for path in found)
        raise UserError(f"{root} has several ground truths ({names}): choose one with --dataset-name")
    raise UserError(
        f"{root} has no ground truth; expected gnd_<name>.pkl beside jpg/, such as gnd_roxford5k.pkl (it has "
        f"{_present(root)})"
    )


def _present(root: Path) -> str:
    names = sorted(entry.name for entry in root.iterdir())
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"


def _require_images(folder: Path, truth: GroundTruth, path: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the images of {path.name} belong into it")
    there = {entry.name for entry in os.scandir(folder)}
    wanted = [f"{name}.jpg" for name in [*truth.database, *truth.queries]]
    # Names with a folder in them are looked up one by one; the published ones have none.
    missing = [name for name in wanted if name not in there and not ("/" in name and (folder / name).is_file())]
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{folder}: {len(missing)} of the {len(wanted)} images that {path.name} names are missing: {first}"
        )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, PlainArray) else value


def _names(value: Any, where: str) -> list[str]:
    names = _plain(value)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} must be a list of image names")
    if not names:
        raise UserError(f"{where} is empty")
    if len(set(names)) < len(names):
        raise UserError(f"{where} names an image twice")
    for name in names:
        if not name or "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{where}: '{name}' is not the name of an image below jpg/")
    return names


def _index_lists(entry: dict[Any, Any], images: int, where: str) -> dict[str, NDArray[np.int64]]:
    lists = {}
    for name in LISTS:
        indices = _plain(entry.get(name))
        if not isinstance(indices, list) or not all(type(index) is int for index in indices):
            raise UserError(f"{where}: '{name}' must be a list of indices into imlist")
        outside = [index for index in indices if not 0 <= index < images]
        if outside:
            raise UserError(f"{where}: index {outside[0]} in '{name}' is outside imlist (0 to {images - 1})")
        lists[name] = np.asarray(indices, dtype=np.int64)
    together = np.concatenate(list(lists.values()))
    if len(np.unique(together)) < len(together):
        raise UserError(f"{where}: an image stands twice in its easy, hard and junk lists")
    return lists


def _box(value: Any, where: str) -> Box:
    numbers = _plain(value)
    if isinstance(numbers, tuple):
        numbers = list(numbers)
    if not (
        isinstance(numbers, list)
        and len(numbers) == 4
        and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    ):
        raise UserError(f"{where}: 'bbx' must be four finite numbers: left, top, right, bottom")
    left, top, right, bottom = map(float, numbers)
    if right <= left or bottom <= top:
        raise UserError(f"{where}: 'bbx' {numbers} is empty (left, top, right, bottom)")
    return left, top, right, bottom
