"""Region similarity J and boundary accuracy F of DAVIS 2017, semi-supervised (paper.md, C.7).

As the official evaluation defines them: every object of the first annotation, every annotated frame but the first and
the last; statistics over an object's frames, then means over objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dino.evaluation.davis.masks import Mask

BOUNDARY_TOLERANCE = 0.008
"""Of the frame's diagonal; rounded up to whole pixels."""
RECALL_ABOVE = 0.5
DECAY_BINS = 4


@dataclass(frozen=True)
class Statistics:
    """Of one measure over one object's frames; proportions."""

    mean: float
    recall: float
    """Share of the frames above 0.5."""
    decay: float
    """Mean of the first quarter of the frames less that of the last."""


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object."""

    sequence: str
    object: int
    frames: int
    j: Statistics
    f: Statistics


def score_frames(
    sequence: str, objects: Sequence[int], stems: Sequence[str], pair: Callable[[str], tuple[Mask, Mask]]
) -> list[ObjectScore]:
    """J and F of each object of a sequence.

    Args:
        sequence: Its name.
        objects: Numbers of its objects.
        stems: Names of the frames that count.
        pair: Gives annotation and result of a frame, both (H, W) with object numbers.
    """
    j = np.empty((len(objects), len(stems)))
    f = np.empty((len(objects), len(stems)))
    for index, stem in enumerate(stems):
        j[:, index], f[:, index] = score_frame(*pair(stem), objects)
    return [
        ObjectScore(sequence, number, len(stems), statistics(j[row]), statistics(f[row]))
        for row, number in enumerate(objects)
    ]


def score_frame(
    annotation: Mask, result: Mask, objects: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and F of each object in one frame, (k,) each."""
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*annotation.shape))
    j, f = np.ones(len(objects)), np.ones(len(objects))
    for index, number in enumerate(objects):
        true = (annotation == number).view(np.uint8)
        found = (result == number).view(np.uint8)
        both = cv2.bitwise_or(true, found)
        box = _grown_box(both)
        if box is None:
            continue  # neither is there: both are 1
        j[index] = cv2.countNonZero(cv2.bitwise_and(true, found)) / cv2.countNonZero(both)
        f[index] = _boundary_score(true[box], found[box], radius)
    return j, f


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of the values of one object's frames, in their order.

    The quarters share their border frames: their bounds are rounded and each includes both of its ends, as in the
    official code.
    """
    bounds = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[bounds[0] : bounds[1] + 1], values[bounds[-2] : bounds[-1] + 1]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > RECALL_ABOVE).mean()),
        decay=float(first.mean() - last.mean()),
    )


def disk(radius: int) -> NDArray[np.uint8]:
    """(2r+1, 2r+1): 1 where the centre's distance is at most the radius."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


def boundary(mask: Mask) -> Mask:
    """1-pixel boundaries of a mask of 0 and another value: where the pixel, its right, lower and lower right neighbour
    are not all equal (at the frame's edge, those that exist)."""
    return np.asarray(
        cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8), anchor=(0, 0)), dtype=np.uint8
    )


def _boundary_score(true: Mask, found: Mask, radius: int) -> float:
    """Harmonic mean of the shares of either boundary that lie within ``radius`` of the other."""
    true, found = boundary(true), boundary(found)
    total_true, total_found = cv2.countNonZero(true), cv2.countNonZero(found)
    if total_true == 0 or total_found == 0:
        return float(total_true == total_found)
    near = disk(radius)
    precision = cv2.countNonZero(cv2.bitwise_and(found, cv2.dilate(true, near))) / total_found
    recall = cv2.countNonZero(cv2.bitwise_and(true, cv2.dilate(found, near))) / total_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _grown_box(mask: Mask) -> tuple[slice, slice] | None:
    """The part of the frame that holds the non-zero pixels and one more all around, where there is any."""
    left, top, width, height = cv2.boundingRect(mask)
    if width == 0:
        return None
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
