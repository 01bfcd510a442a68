"""Few labels: a class-balanced share of the training images, or those that a file names (paper.md, C.4).

The paper's 1 % and 10 % are SimCLR's published lists; which images it took of other sets is unknown [?], so without a
list a seeded share of every class is taken. Smaller shares of one seed are parts of larger ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.errors import UserError
from dino.evaluation.features.files import FeatureSet

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Subset:
    """Which training images count."""

    fraction: float | None = None
    """Share of every class, or None."""
    list_file: str | None = None
    """A file with one image a line, or None."""
    seed: int = 0
    """Of the share."""

    def apply(self, train: FeatureSet) -> tuple[FeatureSet, dict[str, Any] | None, list[str]]:
        """The chosen part of ``train``, what a metrics file says of it (None for all of it), and notes.

        Raises:
            UserError: The fraction or the list is wrong, or leaves a class without an image.
        """
        if self.list_file is not None:
            rows, notes = read_list(self.list_file, train)
            described: dict[str, Any] = {"list": Path(self.list_file).name}
        elif self.fraction is not None:
            rows, notes = choose_share(train.labels, self.fraction, seed=self.seed), []
            described = {"fraction": self.fraction, "seed": self.seed}
        else:
            return train, None, []
        chosen = train.select(rows)
        _refuse_empty_classes(train, chosen)
        return chosen, {**described, "images": len(rows), "digest": digest(chosen, rows)}, notes


def choose_share(labels: NDArray[Any], fraction: float, *, seed: int) -> Rows:
    """Rows of a class-balanced share, ascending.

    Of every class the nearest whole number of images is taken, at least one. With several labels an image, a share of
    all images is taken, and for a class that it misses one more image that shows it.

    Args:
        labels: (N,) class indices, or (N, C) with 1 where an image shows a class.
        fraction: In (0, 1].
        seed: Chooses the images.

    Raises:
        UserError: ``fraction`` is out of range.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"--subset must be a share between 0 and 1, such as 0.01 (got {fraction:g})")
    order = np.random.default_rng(seed).permutation(len(labels))
    if labels.ndim == 2:
        taken = order[: max(1, round(fraction * len(labels)))]
        for column in np.flatnonzero(~(labels[taken] == 1).any(axis=0) & (labels == 1).any(axis=0)):
            taken = np.append(taken, order[np.flatnonzero(labels[order, column] == 1)[0]])
        return np.unique(taken)
    # Sorted by class, each class in the order of the permutation; then the first of each.
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = np.maximum(1, np.rint(fraction * counts).astype(np.int64))
    return np.sort(order[place < np.repeat(wanted, counts)])


def read_list(path: str, train: FeatureSet) -> tuple[Rows, list[str]]:
    """Rows of the images that the file ``path`` names, ascending, and a note on those that could not be read.

    A line is a path relative to the split's folder, or a file name alone where only one image has it (SimCLR's lists:
    ``n01440764_10183.JPEG``).

    Raises:
        UserError: No such file, empty, a name that no training image has or several have, or features without paths.
    """
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"--subset-list {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--subset-list {path}: not a text file with one image name a line") from None
    names = [name for name in dict.fromkeys(names) if name]
    if not names:
        raise UserError(f"--subset-list {path}: it names no image")
    if train.paths is None:
        raise UserError(f"--subset-list {path}: the training features do not hold the paths of their images")
    by_path: dict[str, int | None] = {str(name): row for row, name in enumerate(train.paths)}
    by_name: dict[str, int | None] = {}
    for full, row in by_path.items():
        short = full.rsplit("/", 1)[-1]
        by_name[short] = None if short in by_name else row
    rows: list[int] = []
    unreadable: list[str] = []
    unknown: list[str] = []
    for name in names:
        row = by_path.get(name, by_name.get(name))
        if row is not None:
            rows.append(row)
        elif name in by_name:
            raise UserError(f"--subset-list {path}: several training images are called '{name}'; give <class>/<name>")
        elif any(name in message for message in train.meta.skipped):
            unreadable.append(name)
        else:
            unknown.append(name)
    if unknown:
        raise UserError(
            f"--subset-list {path}: {len(unknown)} of {len(names)} names are of no training image (the first: "
            f"'{unknown[0]}', an image here is '{train.paths[0]}')"
        )
    if not rows:
        raise UserError(f"--subset-list {path}: none of its {len(names)} images could be read")
    notes = [f"{len(unreadable)} of {len(names)} listed images skipped as unreadable"] if unreadable else []
    return np.unique(np.asarray(rows, dtype=np.int64)), notes


def digest(chosen: FeatureSet, rows: Rows) -> str:
    """Sixteen hex digits of the sorted paths of the chosen images, or of their rows where paths are unknown."""
    names = [str(row) for row in rows] if chosen.paths is None else sorted(map(str, chosen.paths))
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _refuse_empty_classes(train: FeatureSet, chosen: FeatureSet) -> None:
    if train.multi_label:
        empty = np.flatnonzero((train.labels == 1).any(axis=0) & ~(chosen.labels == 1).any(axis=0))
    else:
        empty = np.setdiff1d(train.labels, chosen.labels)
    if len(empty):
        classes = train.meta.data.classes if train.meta.data else []
        first = f"'{classes[empty[0]]}'" if empty[0] < len(classes) else f"label {empty[0]}"
        raise UserError(f"the subset leaves {len(empty)} classes without a training image (the first: {first})")
