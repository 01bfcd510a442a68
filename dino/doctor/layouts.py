"""A data set's files, by its layout: how many there are, whether one of each class can be read, what is wrong.

Imports no torch: the readers here are those of `dino.data` that list and decode.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dino.data.decode import CorruptImage, decode
from dino.data.downloads import Download, find_download
from dino.data.folder import EXTENSIONS, LabelledImages
from dino.data.voc import LISTS, find_voc, read_voc
from dino.errors import UserError
from dino.registry import DatasetSpec


@dataclass
class Look:
    """What a look at a data set's files has shown."""

    expected: Mapping[str, int]
    """What the publishers, or a manifest, say is in each part."""
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def count(self, part: str, found: int, what: str) -> None:
        """Note how many there are of a part, and that it is not what it should be."""
        self.facts.append(f"{part}: {found} {what}")
        expected = self.expected.get(part)
        if expected is not None and found != expected:
            self.problems.append(f"{part}: {found} {what.split(' of ')[0]}, expected {expected}")

    def decode(self, part: str, paths: Iterable[Path]) -> None:
        """Note which of these images cannot be decoded."""
        bad = [path for path in paths if not _decodes(path)]
        if bad:
            name = f"{bad[0].parent.name}/{bad[0].name}"
            self.problems.append(f"{part}: {len(bad)} images cannot be decoded (the first: {name})")


def look_at(spec: DatasetSpec, root: Path, *, expected: Mapping[str, int]) -> Look:
    """Count and read in the set's folder ``root``.

    Args:
        spec: The registration, which says in which layout it lies.
        root: Its folder.
        expected: Number of images of a part, by its name; DAVIS: sequences.
    """
    look = Look(expected)
    try:
        match spec.layout:
            case "voc" | "multilabel":
                _look_at_voc(look, spec, root)
            case "davis":
                _look_at_davis(look, spec, root)
            case "revisited":
                _look_at_revisited(look, root, spec.name)
            case "copydays":
                _look_at_copydays(look, root)
            case _:
                _look_at_labelled(look, spec, root)
    except (UserError, OSError) as error:
        look.problems.append(str(error))
    return look


# --- images with one class each ---------------------------------------------------------------------------------------


def _look_at_labelled(look: Look, spec: DatasetSpec, root: Path) -> None:
    download = find_download(root) if spec.layout == "torchvision" else None
    if download is not None and not (root / spec.splits.get("train", "train")).is_dir():
        _look_at_download(look, spec, *download)
        return
    for split, folder in spec.splits.items():
        if split not in ("train", "test") and not (root / folder).is_dir():
            continue  # a download's own lists, which an ImageFolder need not have
        _look_at_folder(look, split, root / folder, classes=spec.num_classes)


def _look_at_folder(look: Look, split: str, folder: Path, *, classes: int | None) -> None:
    if not folder.is_dir():
        look.problems.append(f"{split}: no folder {folder}")
        return
    count, empty, first = 0, [], []
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        found, earliest = _images_below(folder / name)
        count += found
        if earliest is None:
            empty.append(name)
        else:
            first.append(earliest)
    look.count(split, count, f"images of {len(names)} classes")
    if classes is not None and len(names) != classes:
        look.problems.append(f"{split}: {len(names)} classes, expected {classes}")
    if empty:
        look.problems.append(f"{split}: {len(empty)} classes without images (the first: {empty[0]})")
    look.decode(split, first)


def _images_below(folder: Path) -> tuple[int, Path | None]:
    """How many images, and the first of them."""
    count, first = 0, None
    for place, folders, files in os.walk(folder):
        folders.sort()
        images = [name for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        count += len(images)
        if first is None and images:
            first = Path(place) / min(images)
    return count, first


def _look_at_download(look: Look, spec: DatasetSpec, download: Download, place: Path) -> None:
    look.facts.append(f"{download.title}'s own files")
    for split in spec.splits:
        if split in download.splits:
            _look_at_list(look, split, place, download.read(place, split), classes=spec.num_classes)
    for name, md5 in download.md5.items():
        if (place / name).is_file() and _md5(place / name) != md5:
            look.problems.append(f"{name} has another MD5 than is published ({md5})")


def _look_at_list(look: Look, part: str, root: Path, images: LabelledImages, *, classes: int | None) -> None:
    look.count(part, len(images.paths), f"images of {len(images.classes)} classes")
    if classes is not None and len(images.classes) != classes:
        look.problems.append(f"{part}: {len(images.classes)} classes, expected {classes}")
    empty = [name for name, count in zip(images.classes, _shows(images).sum(axis=0).tolist(), strict=True) if not count]
    if empty:
        look.problems.append(f"{part}: {len(empty)} classes without images (the first: {empty[0]})")
    if images.pixels is None:
        look.decode(part, _one_of_each_class(root, images))


def _shows(images: LabelledImages) -> NDArray[np.bool_]:
    """(N, classes): which image shows what."""
    if images.labels.ndim == 2:
        return np.asarray(images.labels == 1)
    return np.asarray(images.labels[:, None] == np.arange(len(images.classes)))


def _one_of_each_class(root: Path, images: LabelledImages) -> list[Path]:
    return [root / images.paths[index] for index in sorted(set(_shows(images).argmax(axis=0).tolist()))]


# --- VOCdevkit --------------------------------------------------------------------------------------------------------


def _look_at_voc(look: Look, spec: DatasetSpec, root: Path) -> None:
    holds = LISTS if spec.layout == "multilabel" else "SegmentationClass"
    year = find_voc(root, name=spec.name, holds=holds)
    if year is None:
        raise UserError(f"no {holds} in {root}, VOC20NN or VOCdevkit/VOC20NN below it")
    if spec.layout == "multilabel":
        for split, listed in spec.splits.items():
            _look_at_list(look, split, year, read_voc(year, listed), classes=spec.num_classes)
        return
    # A real set's parts are called by its splits, a generated one's by its lists.
    parts = {"train": "train", "val": "val"} if spec.kind == "generated" else spec.splits
    lists = year / "ImageSets" / "Segmentation"
    folders = [("JPEGImages", "jpg"), ("SegmentationClass", "png"), ("SegmentationObject", "png")]
    if not lists.is_dir():  # `dino masks` takes all
        look.facts.append(f"no lists in {lists}: all masks are taken")
        parts = {"test": ""}
    if not (year / "SegmentationObject").is_dir():
        look.facts.append("no SegmentationObject: instances are not scored")
        folders.pop()
    for part, listed in parts.items():
        if lists.is_dir():
            names = _lines(lists / f"{listed}.txt")
        else:
            names = sorted(path.stem for path in (year / "SegmentationClass").glob("*.png"))
        look.count(part, len(names), "images with masks")
        for folder, suffix in folders:
            lacking = sorted(set(names) - {path.stem for path in (year / folder).glob(f"*.{suffix}")})
            if lacking:
                look.problems.append(f"{part}: {len(lacking)} files lack in {folder} (the first: {lacking[0]})")
            elif names:
                look.decode(part, [year / folder / f"{names[0]}.{suffix}"])
        if listed and any((year / LISTS).glob(f"*_{listed}.txt")):
            look.decode(part, _one_of_each_class(year, read_voc(year, listed)))


# --- DAVIS ------------------------------------------------------------------------------------------------------------


def _look_at_davis(look: Look, spec: DatasetSpec, root: Path) -> None:
    images, masks = (root / kind / "480p" for kind in ("JPEGImages", "Annotations"))
    lists = root / "ImageSets" / "2017"
    unlisted = not any(lists.glob("*.txt"))
    if unlisted:  # as DAVIS 2016 and cut-down copies come: `dino davis` takes all
        look.facts.append(f"no lists in {lists}: all sequences are taken")
    for part, listed in {"test": ""}.items() if unlisted else spec.splits.items():
        file = lists / f"{listed}.txt"
        if not unlisted and not file.is_file():
            look.problems.append(f"{part}: no list {file}")
            continue
        names = _folders(masks) if unlisted else _lines(file)
        absent = [name for name in names if not (images / name).is_dir()]
        uneven = [name for name in names if name not in absent and _stems(masks / name) != _stems(images / name)]
        look.count(part, len(names) - len(absent), "sequences")
        if absent:
            look.problems.append(f"{part}: {len(absent)} sequences are not there (the first: {absent[0]})")
        if uneven:
            look.problems.append(f"{part}: {len(uneven)} sequences have not one mask a frame (the first: {uneven[0]})")
        whole = [name for name in names if name not in absent and name not in uneven]
        look.decode(part, [path for name in whole for path in _first(images / name) + _first(masks / name)])


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.*")}


def _first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.*"))[:1]


# --- Revisited Oxford and Paris, Copydays -----------------------------------------------------------------------------


def _look_at_revisited(look: Look, root: Path, name: str) -> None:
    from dino.data.plain_pickle import load_plain_pickle

    # Both sets may lie side by side: below one folder, or with their ground truths in one.
    root = root / name if (root / name / f"gnd_{name}.pkl").is_file() else root
    own = root / f"gnd_{name}.pkl"
    files = [own] if own.is_file() else sorted(root.glob("gnd_*.pkl"))
    if not files:
        raise UserError(f"no ground truth gnd_*.pkl in {root}")
    there = {path.stem for path in (root / "jpg").glob("*.jpg")}
    for file in files:
        truth = load_plain_pickle(file)
        try:
            parts = {"database": list(truth["imlist"]), "queries": list(truth["qimlist"])}
            entries = len(truth["gnd"])
        except (TypeError, KeyError):
            look.problems.append(f"{file.name} has not the entries imlist, qimlist and gnd")
            continue
        look.facts.append(file.name)
        if entries != len(parts["queries"]):
            look.problems.append(f"{file.name}: {entries} entries for {len(parts['queries'])} queries")
        for part, names in parts.items():
            look.count(part, len(names), "images")
            lacking = [name for name in names if name not in there]
            if lacking:
                look.problems.append(f"{part}: {len(lacking)} images are not in jpg/ (the first: {lacking[0]}.jpg)")
            elif names:
                look.decode(part, [root / "jpg" / f"{names[0]}.jpg"])


def _look_at_copydays(look: Look, root: Path) -> None:
    identities: dict[str, set[str]] = {}
    for part in ("original", "strong", "distractors", "whitening"):
        found, first = _images_below(root / part)
        if not found and part in ("original", "strong"):
            look.problems.append(f"no images in {root / part}")
            continue
        look.count(part, found, "images")
        look.decode(part, [first] if first is not None else [])
        identities[part] = {path.name[:4] for path in (root / part).rglob("*") if path.suffix.lower() in EXTENSIONS}
    orphans = sorted(identities.get("strong", set()) - identities.get("original", set()))
    if orphans and "original" in identities:
        look.problems.append(f"strong: {len(orphans)} identities have no original (the first: {orphans[0]})")


# --- files ------------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"no list {path}")
    return path.read_text(encoding="utf-8", errors="replace").split()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _decodes(path: Path) -> bool:
    try:
        decode(path)
    except CorruptImage:
        return False
    return True
