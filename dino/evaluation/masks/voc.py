"""Images with segmentation masks in VOCdevkit's layout: classes, and instances where there are any."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dino.data.decode import CorruptImage
from dino.data.folder import EXTENSIONS, listing_digest
from dino.errors import UserError, suggest
from dino.evaluation.data_folders import find_data_folder

IMAGES, CLASSES, INSTANCES = "JPEGImages", "SegmentationClass", "SegmentationObject"
LISTS = Path("ImageSets") / "Segmentation"


@dataclass(frozen=True)
class Scene:
    """One image and its masks, relative to the set's folder."""

    name: str
    image: str
    classes: str
    instances: str | None


@dataclass(frozen=True)
class SceneSet:
    """The scenes of one list."""

    name: str
    """Of the registry, or the folder's."""
    version: str
    """`dataset_version` of a generated set; empty for others."""
    root: Path
    split: str | None
    """The list; None where the folder has none and all its masks are taken."""
    scenes: list[Scene]
    digest: str
    notes: list[str] = field(default_factory=list)


def find_scenes(data: str, split: str) -> SceneSet:
    """The scenes of ``data``: a registered set, or a folder with ``JPEGImages`` and ``SegmentationClass``.

    Args:
        data: A name, or a folder: ``VOCdevkit``, its parent, or ``VOC2012`` in it.
        split: The list in ``ImageSets/Segmentation``; where the folder has no lists, all masks are taken.

    Raises:
        UserError: The set is unknown, missing, of another layout, empty, or its list names files that are not there.
    """
    folder = find_data_folder(data, layout="voc")
    root = _root_below(folder.root)
    names = _listed(root, split)
    found = {Path(entry).stem: entry for entry in _files(root / CLASSES, (".png",))}
    images = {Path(entry).stem: entry for entry in _files(root / IMAGES, EXTENSIONS)}
    instances = {Path(entry).stem: entry for entry in _files(root / INSTANCES, (".png",))}
    notes = []
    listed = names is not None
    if names is None:
        names = sorted(found)
        notes.append(f"{LISTS}/{split}.txt is not there: all {len(names)} masks of {CLASSES} are taken")
    if not names:
        raise UserError(f"{root}: no masks (*.png) in {CLASSES}")
    missing = [name for name in names if name not in images or name not in found]
    if missing:
        raise UserError(
            f"{root}: {len(missing)} of {len(names)} images lack their file in {IMAGES} or {CLASSES} (the first: "
            f"'{missing[0]}'); complete the set, or remove {LISTS} to take the masks that are there"
        )
    lacking = [name for name in names if name not in instances]
    if lacking:
        if len(lacking) == len(names):
            notes.append(f"no image has a mask in {INSTANCES}: instances are not scored")
        else:
            what = f"{len(lacking)} of {len(names)} images have no mask in {INSTANCES}"
            notes.append(f"{what}: instances are scored on the others only")
    scenes = [
        Scene(
            name,
            f"{IMAGES}/{images[name]}",
            f"{CLASSES}/{found[name]}",
            f"{INSTANCES}/{instances[name]}" if name in instances else None,
        )
        for name in names
    ]
    files = [path for scene in scenes for path in (scene.image, scene.classes, scene.instances) if path is not None]
    return SceneSet(
        name=folder.name,
        version=folder.version,
        root=root,
        split=split if listed else None,
        scenes=scenes,
        digest=listing_digest(root, files),
        notes=notes,
    )


def read_labels(path: Path) -> NDArray[np.int64]:
    """The labels of a mask file, (H, W): palette indices or grey values.

    Raises:
        CorruptImage: It cannot be read.
        UserError: It has colours instead of labels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mask = Image.open(io.BytesIO(path.read_bytes()))
            mask.load()
    except UnidentifiedImageError:
        raise CorruptImage(f"{path}: no image") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise CorruptImage(f"{path}: {' '.join(str(error).split())}") from None
    if mask.mode not in ("P", "L", "1", "I") and not mask.mode.startswith("I;16"):
        raise UserError(
            f"{path}: a mask of colours (mode {mask.mode}); expected palette indices or grey values: 0 background, "
            "255 void, others objects"
        )
    return np.asarray(mask).astype(np.int64)


def resize_labels(labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Nearest resampling to (height, width), pixel centres aligned as Pillow does."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _root_below(folder: Path) -> Path:
    """The folder itself, or the newest VOC year in it or in its VOCdevkit."""
    candidates = [folder, *sorted(folder.glob("VOC20*"), reverse=True)]
    candidates += sorted((folder / "VOCdevkit").glob("VOC20*"), reverse=True)
    for candidate in candidates:
        if (candidate / IMAGES).is_dir() and (candidate / CLASSES).is_dir():
            return candidate
    raise UserError(f"{folder}: expected {IMAGES}/ and {CLASSES}/ in it (VOCdevkit/VOC2012)")


def _listed(root: Path, split: str) -> list[str] | None:
    """The names in a list; None where the folder has no lists at all."""
    path = root / LISTS / f"{split}.txt"
    if not (root / LISTS).is_dir():
        return None
    if not path.is_file():
        known = sorted(file.stem for file in (root / LISTS).glob("*.txt"))
        raise UserError(f"{path}: no such list{suggest(split, known)} (there are: {', '.join(known) or 'none'})")
    names = path.read_text(encoding="utf-8").split()
    if not names:
        raise UserError(f"{path}: an empty list")
    return names


def _files(folder: Path, extensions: Sequence[str]) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name.lower().endswith(tuple(extensions)) and not entry.name.startswith(".")
    )
