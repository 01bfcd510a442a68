"""Intersection over union of masks made of patches with objects made of pixels (paper.md, C.8).

A mask upsampled to pixels is constant within a patch, so it is enough to know how many pixels of each object every
patch holds: the same counts as over all pixels, at 1/p^2 of the work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BACKGROUND, VOID = 0, 255


@dataclass(frozen=True)
class ObjectPixels:
    """The objects of one image, counted by patch."""

    ids: NDArray[np.int64]
    """(O,), the labels of the objects."""
    counts: NDArray[np.float64]
    """(O, N), pixels of each object in each patch."""
    counted: NDArray[np.float64]
    """(N,), pixels of each patch that count at all."""


def count_objects(labels: NDArray[np.generic], patch_size: int, *, void: str = "ignore") -> ObjectPixels:
    """Count the pixels of every label in every patch.

    Args:
        labels: (h, w), multiples of the patch: 0 is background, 255 is void, all others are objects.
        patch_size: p.
        void: ``ignore`` leaves void pixels out of intersection and union; ``background`` counts them as such.
    """
    height, width = labels.shape
    rows, columns = height // patch_size, width // patch_size
    ids, number = np.unique(labels, return_inverse=True)
    patch = (np.arange(height) // patch_size)[:, None] * columns + np.arange(width) // patch_size
    index = number.reshape(labels.shape) * (rows * columns) + patch
    counts = np.bincount(index.ravel(), minlength=len(ids) * rows * columns).reshape(len(ids), -1).astype(np.float64)
    is_object = (ids != BACKGROUND) & (ids != VOID)
    is_counted = ids != VOID if void == "ignore" else np.ones(len(ids), dtype=bool)
    return ObjectPixels(
        ids=ids[is_object].astype(np.int64), counts=counts[is_object], counted=counts[is_counted].sum(axis=0)
    )


def jaccard(masks: NDArray[np.bool_], objects: ObjectPixels) -> NDArray[np.float64]:
    """Intersection over union of every object with every mask: masks (heads, N) to (O, heads)."""
    selected = masks.T.astype(np.float64)
    intersection = objects.counts @ selected
    union = objects.counts.sum(axis=1, keepdims=True) + objects.counted @ selected - intersection
    return intersection / union
