"""What is in an image folder: class sub-folders in sorted order, their files, and a digest of the whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.errors import UserError
from dino.files import write_json

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision's list, in lower case."""

CACHE_FROM_FILES = 20_000
"""Sets this large have their digest remembered: asking a network file system for a million sizes takes minutes."""


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split and what they show."""

    classes: list[str]
    paths: list[str]
    """Relative to the set's folder."""
    labels: NDArray[Any]
    """(N,) int64, or (N, classes) int8 where an image has several classes: 1 there, 0 not, -1 not judged."""
    label_files: list[str] = field(default_factory=list)
    """Files beside the images that the labels are from; they count for the digest."""
    pixels: NDArray[np.uint8] | None = None
    """Images that came decoded: (N, 3, H, W)."""
    digest: str = ""
    """Where it is not that of the files listed."""


def list_folder(root: Path) -> LabelledImages:
    """List ``<root>/<class>/**/<image>`` in torchvision's order: classes sorted, files sorted within a class.

    Raises:
        UserError: There is no such folder, no class sub-folder, or a class without images.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected class sub-folders with images in it")
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(
            f"{root}: no class sub-folders; expected {root.name}/<class>/<image> "
            "(unlabelled images may go into one sub-folder of any name)"
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_images_below(root, name))
        if not found:
            raise UserError(
                f"{root / name}: class without images ({', '.join(EXTENSIONS)}); remove the folder or fill it"
            )
        paths += found
        labels += [label] * len(found)
    return LabelledImages(classes=classes, paths=paths, labels=np.asarray(labels, dtype=np.int64))


def _images_below(root: Path, relative: str) -> list[str]:
    found = []
    with os.scandir(root / relative) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _images_below(root, f"{relative}/{entry.name}")
            elif entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith("."):
                found.append(f"{relative}/{entry.name}")
    return found


def check_present(root: Path, paths: list[str], *, listed_in: Path) -> None:
    """Check that every one of ``paths`` is a file below ``root``: a list may name images that were not unpacked.

    Raises:
        UserError: The list names no image, or some that are not there.
    """
    if not paths:
        raise UserError(f"{listed_in} names no image; get the data set again")
    there: dict[str, set[str]] = {}
    for folder in {os.path.dirname(path) for path in paths}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            there[folder] = set(os.listdir(root / folder))
    missing = [path for path in paths if os.path.basename(path) not in there.get(os.path.dirname(path), set())]
    if missing:
        raise UserError(
            f"{listed_in} names {len(missing)} images that are not there (the first: {root / missing[0]}); unpack the "
            "data set's archives completely"
        )


def listing_digest(root: Path, paths: list[str]) -> str:
    """Sixteen hex digits of the sorted (relative path, size in bytes) of all files: cheap, and no path of a machine.

    It notices files added, removed, renamed or re-encoded, not a changed file of equal size. For large sets it is
    remembered in the user's cache folder as long as no class folder's own time changes.
    """
    if len(paths) < CACHE_FROM_FILES:
        return _digest(root, paths)
    folders = sorted({os.path.dirname(path) for path in paths})
    state = hashlib.sha256(json.dumps([len(paths), str(root.resolve())]).encode())
    for folder in folders:
        state.update(f"{folder}:{(root / folder).stat().st_mtime_ns}\n".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dino" / f"digest-{state.hexdigest()[:32]}"
    try:
        return str(json.loads(cache.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        digest = _digest(root, paths)
    try:
        write_json(cache, {"root": str(root.resolve()), "digest": digest})
    except (OSError, UserError):
        return digest  # a home folder that cannot be written costs time, not the run
    return digest


def _digest(root: Path, paths: list[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            size = os.stat(root / path).st_size
        except OSError:  # a link to nowhere: reading it is what fails, as of any corrupt image
            size = -1
        digest.update(f"{path}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
