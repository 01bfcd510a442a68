"""Several labels an image (VOC07, Table 10): scores by weighted neighbours, and average precision of any scores.

Labels are 1 (present), 0 (absent) and -1 (not judged: VOC's difficult objects), which count neither as right nor as
wrong. The paper does not say how its k-NN and mAP were computed; both are assumptions [?]: a class's k-NN score is the
average of the neighbours' labels, weighted by their votes, and mAP is the mean over classes of the area under the
precision-recall curve made monotone, as in the VOC devkit since 2010 and in the evaluations of VOC07 features that
followed. The devkit of 2007 itself averaged precision at eleven recalls: reported beside.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.scoring.neighbours import iterate_neighbours


@dataclass(frozen=True)
class MeanPrecision:
    """Mean average precision over the classes that have a positive test image, in %."""

    area: float
    """Area under the monotone precision-recall curve."""
    eleven_point: float
    """Mean precision at the recalls 0, 0.1, ..., 1."""
    classes: int
    """Classes in the mean."""


def neighbour_scores(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    ks: Sequence[int],
    temperature: float,
    memory_mib: int = 512,
) -> dict[int, NDArray[np.float64]]:
    """Scores (M, C) of every test image for every class, for each of ``ks``.

    A score is the sum of exp(similarity / T) over the neighbours that show the class, divided by that over the
    neighbours that are judged for it; 0 where none is.

    Args:
        train_features: (N, D), rows of length 1.
        train_labels: (N, C) int8.
        test_features: (M, D), rows of length 1.
        ks: Numbers of neighbours, each at most N.
        temperature: T of the votes.
        memory_mib: What a chunk of test images may take beyond the features, in MiB.
    """
    ordered = sorted(set(ks))
    classes = train_labels.shape[1]
    scores = {k: np.empty((len(test_features), classes)) for k in ordered}
    chunks = iterate_neighbours(
        test_features,
        train_features,
        k=ordered[-1],
        memory_mib=memory_mib,
        reserve_bytes_per_query=20 * classes * ordered[-1],
    )
    for rows, similarities, indices in chunks:
        # As in `dino.evaluation.scoring.votes`: a common factor changes no average, and with the first vote at 1 none
        # overflows.
        weights = (similarities - similarities[:, :1]).double().div_(temperature).exp_()[:, None]
        labels = train_labels[indices]
        present = torch.zeros(len(labels), classes, dtype=torch.float64, device=labels.device)
        judged = torch.zeros_like(present)
        for start, stop in itertools.pairwise([0, *ordered]):
            part = labels[:, start:stop]
            present += torch.matmul(weights[..., start:stop], (part == 1).double())[:, 0]
            judged += torch.matmul(weights[..., start:stop], (part >= 0).double())[:, 0]
            scores[stop][rows] = (present / judged.clamp_min(1e-300)).cpu().numpy()
    return scores


def mean_precision(scores: NDArray[Any], labels: NDArray[Any]) -> MeanPrecision:
    """Mean AP of ``scores`` (M, C) against ``labels`` (M, C), over the classes with a positive.

    Raises:
        UserError: There is no such class.
    """
    shown = np.flatnonzero((labels == 1).any(axis=0))
    if len(shown) == 0:
        raise UserError("the test images show none of the classes: average precision is not defined")
    area, eleven_point = np.mean([average_precision(scores[:, c], labels[:, c]) for c in shown], axis=0)
    return MeanPrecision(100 * float(area), 100 * float(eleven_point), len(shown))


def random_precision(labels: NDArray[Any]) -> float:
    """What guessing gives with many images, in %: the mean share of positives among a class's judged images."""
    present, judged = (labels == 1).sum(axis=0), (labels >= 0).sum(axis=0)
    return 100 * float(np.mean(present[present > 0] / judged[present > 0]))


def undefined_note(labels: NDArray[Any]) -> list[str]:
    """A note where classes are not part of the mean."""
    absent = int(np.sum(~(labels == 1).any(axis=0)))
    return [f"{absent} classes that no test image shows are left out of the mean"] if absent else []


def average_precision(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Area under the monotone precision-recall curve, and mean precision at eleven recalls, of one class.

    Equal scores make one point of the curve, so that the order of the images does not matter.

    Args:
        scores: (M,).
        labels: (M,), with at least one 1; entries of -1 are left out.
    """
    scores, right = scores[labels >= 0], labels[labels >= 0] == 1
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(right[order])[last_of_equals]
    precision = hits / (last_of_equals + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    positives = int(right.sum())
    area = float(np.sum(np.diff(hits, prepend=0) * monotone) / positives)
    # In whole numbers: 3 of 10 positives are a recall of 0.3, whatever 0.1 * 3 is in floating point.
    points = [monotone[np.argmax(10 * hits >= tenth * positives)] for tenth in range(11)]
    return area, float(np.mean(points))
