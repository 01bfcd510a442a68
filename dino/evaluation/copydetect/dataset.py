"""Copydays: originals, strongly attacked copies of them, and images that are neither (paper.md, C.6)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dino.data.folder import EXTENSIONS
from dino.errors import UserError
from dino.evaluation.data_folders import find_data_folder

IDENTITY_CHARACTERS = 4
"""A copy's file name begins with as many characters of its original's."""


@dataclass(frozen=True)
class Part:
    """Some images: a folder and the paths in it, sorted."""

    root: Path
    paths: list[str]


@dataclass(frozen=True, kw_only=True)
class CopydaysSet:
    """A data set that is all there."""

    name: str
    """Of the registry, or the folder's."""
    originals: Part
    strong: Part
    """The queries."""
    distractors: Part | None
    """What else is in the database."""
    whitening: Part | None
    """What the whitening is learnt from."""
    positives: list[list[int]]
    """For each copy its originals, as indices into ``originals``; at least one."""
    version: str = ""
    """Of a generated set."""


def read_copydays(
    name_or_folder: str | Path, *, distractors: str | Path | None = None, whitening: str | Path | None = None
) -> CopydaysSet:
    """Read and check a data set.

    Args:
        name_or_folder: A registered set, or a folder with ``original/`` and ``strong/``.
        distractors: A folder of images, with sub-folders or without; None is ``distractors/`` of the set, if any.
        whitening: Likewise; None is ``whitening/`` of the set.

    Raises:
        UserError: No such set or folder, an empty one, or copies whose original is missing.
    """
    folder = find_data_folder(name_or_folder, layout="copydays")
    originals, strong = (_flat(folder.root, part) for part in ("original", "strong"))
    by_identity: dict[str, list[int]] = {}
    for index, path in enumerate(originals.paths):
        by_identity.setdefault(path[:IDENTITY_CHARACTERS], []).append(index)
    positives = [by_identity.get(path[:IDENTITY_CHARACTERS], []) for path in strong.paths]
    orphans = [path for path, found in zip(strong.paths, positives, strict=True) if not found]
    if orphans:
        first = ", ".join(orphans[:3]) + (", ..." if len(orphans) > 3 else "")
        raise UserError(
            f"{strong.root}: {len(orphans)} of {len(strong.paths)} copies have no original whose name begins with the "
            f"same {IDENTITY_CHARACTERS} characters: {first}"
        )
    return CopydaysSet(
        name=folder.name,
        originals=originals,
        strong=strong,
        distractors=_deep(folder.root / "distractors", distractors, "--distractors"),
        whitening=_deep(folder.root / "whitening", whitening, "--whitening"),
        positives=positives,
        version=folder.version,
    )


def _flat(root: Path, name: str) -> Part:
    folder = root / name
    if not folder.is_dir():
        raise UserError(f"{root} has no folder '{name}'; expected original/ and strong/ with images in them")
    paths = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and _is_image(entry.name))
    if not paths:
        raise UserError(f"{folder} holds no images ({', '.join(EXTENSIONS)})")
    return Part(folder, paths)


def _deep(default: Path, given: str | Path | None, option: str) -> Part | None:
    folder = default if given is None else Path(given).expanduser().resolve()
    if not folder.is_dir():
        if given is not None:
            raise UserError(f"{option} {given}: no such folder")
        return None
    paths = sorted(
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
        if _is_image(name)
    )
    if not paths:
        raise UserError(f"{folder} holds no images ({', '.join(EXTENSIONS)}); remove the folder or fill it")
    return Part(folder, paths)


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")
