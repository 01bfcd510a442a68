"""The training images that the learning rate of linear probes is chosen on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.data import ImageSet
from dino.evaluation.features.subset import choose_share


def choose_held_out(labels: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """(N,) bool: of every class with two images and more the ``share``, at most half, at least one; always the same."""
    counts = np.bincount(labels)
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[choose_share(labels, share, seed=0)] = True
    return held_out & (counts[labels] > 1)


def part_of(images: ImageSet, rows: NDArray[Any]) -> ImageSet:
    """The images ``rows`` of a split."""
    return dataclasses.replace(
        images,
        paths=[images.paths[row] for row in rows],
        labels=images.labels[rows],
        pixels=None if images.pixels is None else images.pixels[rows],
        skipped=[],
    )
