"""Classification lists of a VOCdevkit year: images with several classes each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino.data.folder import LabelledImages, check_present
from dino.errors import UserError

LISTS = Path("ImageSets") / "Main"
IMAGES = "JPEGImages"

_MEANING = {"1": 1, "-1": 0, "0": -1}
"""VOC: 1 there, -1 not, 0 only *difficult* ones, which VOC's own scores leave out. Ours: 1, 0, -1."""


def find_voc(folder: Path, *, name: str = "", holds: str | Path = LISTS) -> Path | None:
    """The year's folder: ``folder`` itself, or ``VOC20NN`` in it or in its ``VOCdevkit``; None where there is none.

    Args:
        folder: The user's.
        name: Of the data set: where several years lie side by side its last two digits choose (``voc07``).
        holds: The sub-folder that makes it one.

    Raises:
        UserError: Several years, none of them the name's.
    """
    if (folder / holds).is_dir():
        return folder
    years = [
        place
        for parent in (folder, folder / "VOCdevkit")
        for place in sorted(parent.glob("VOC20[0-9][0-9]"))
        if (place / holds).is_dir()
    ]
    fitting = [place for place in years if name[-2:].isdigit() and place.name.endswith(name[-2:])]
    if len(years) > 1 and len(fitting) != 1:
        raise UserError(f"{folder} holds {', '.join(place.name for place in years)}: give the folder of one of them")
    return next(iter(fitting or years), None)


def read_voc(root: Path, listed: str) -> LabelledImages:
    """The images of the list ``listed`` (``trainval``, ``test``) of a year, and which classes are in each.

    Returns:
        Labels (N, classes) int8: 1 there, 0 not, -1 only difficult objects; those count neither for nor against.

    Raises:
        UserError: A list is missing or damaged, lists disagree, or an image is not there.
    """
    suffix = f"_{listed}.txt"
    files = sorted(path.name for path in (root / LISTS).glob(f"*{suffix}"))
    if not files:
        known = sorted({path.stem.rsplit("_", 1)[-1] for path in (root / LISTS).glob("*_*.txt")})
        advice = "; the test lists are in an archive of their own" if listed == "test" else ""
        raise UserError(
            f"{root / LISTS} has no lists <class>{suffix} (it has {', '.join(known) or 'no class lists'}){advice}"
        )
    columns, names = [], None
    for file in files:
        found, column = _read_list(root / LISTS / file)
        if names is not None and found != names:
            raise UserError(
                f"{root / LISTS / file} names other images than {root / LISTS / files[0]}; unpack VOC again"
            )
        names = found
        columns.append(column)
    assert names is not None
    paths = [f"{IMAGES}/{name}.jpg" for name in names]
    check_present(root, paths, listed_in=root / LISTS / files[0])
    return LabelledImages(
        classes=[file.removesuffix(suffix) for file in files],
        paths=paths,
        labels=np.array(columns, dtype=np.int8).T.copy(),
        label_files=[str(LISTS / file) for file in files],
    )


def _read_list(path: Path) -> tuple[list[str], list[int]]:
    names, column = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in _MEANING:
            raise UserError(f"{path}, line {number}: expected an image's name and 1, 0 or -1 (got '{line}')")
        names.append(words[0])
        column.append(_MEANING[words[1]])
    return names, column
