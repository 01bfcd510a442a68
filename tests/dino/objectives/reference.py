"""The objectives in float64 numpy, word for word as their papers have them: loops over pairs, images and negatives.

Written without the code under test; the values that the tests hold every objective to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(x: Array) -> Array:
    """Rows of length one."""
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sinkhorn(x: Array, temperature: float, iterations: int) -> Array:
    """Paper, appendix B: exponentials, columns over the batch, rows."""
    q = np.exp((x - x.max()) / temperature)
    for _ in range(iterations):
        q = q / q.sum(0, keepdims=True)
        q = q / q.sum(1, keepdims=True)
    return q


def over_pairs(student: Array, teacher: Array, views: int, loss: Callable[[Array, Array], float]) -> float:
    """The mean of ``loss(a student's row, a teacher's row)`` over all images and pairs of different views."""
    students, teachers = np.split(student, views), np.split(teacher, 2)
    values = [
        loss(students[v][b], teachers[q][b])
        for q in range(2)
        for v in range(views)
        if v != q
        for b in range(len(students[0]))
    ]
    return float(np.mean(values))


def cross_entropy(student: Array, targets: Array, views: int, temperature: float) -> float:
    """DINO and SwAV, with the targets given."""
    return over_pairs(student, targets, views, lambda s, p: float(-(p * np.log(softmax(s / temperature))).sum()))


def squared_error(student: Array, teacher: Array, views: int) -> float:
    """BYOL: of unit vectors."""
    return over_pairs(student, teacher, views, lambda s, t: float(((unit(s) - unit(t)) ** 2).sum()))


def info_nce(student: Array, teacher: Array, queue: Array, views: int, temperature: float) -> float:
    """MoCo: softmax cross-entropy of [positive, negatives] with the positive as its class."""

    def loss(s: Array, k: Array) -> float:
        logits = np.concatenate([[s @ k], queue @ s]) / temperature
        return float(-np.log(softmax(logits)[0]))

    return over_pairs(student, teacher, views, loss)


def gradient(loss: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Central differences."""
    result = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        low, high = at.copy(), at.copy()
        low[index] -= step
        high[index] += step
        result[index] = (loss(high) - loss(low)) / (2 * step)
    return result
