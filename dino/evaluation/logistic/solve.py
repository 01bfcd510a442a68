"""L2-regularised logistic regression without intercept, for several strengths of regularisation at once.

The objective is (1/n) sum_i loss(W x_i, y_i) + lambda/(2n) |W|^2: the authors handed lambda / n to cyanure, whose
objective is the mean loss plus half its parameter times |W|^2. In scikit-learn's terms C = 1 / lambda; leaving out the
division by n regularises n times as much (bytedance/ibot#21: 58.0 instead of 64.5 %).

The loss is softmax cross-entropy for labels (n,), and the sum over classes of binary cross-entropies for tables (n, C),
whose unjudged entries (-1) are left out. There each class is a problem of its own, and the n that its objective is
divided by changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dino.evaluation.logistic.lbfgs import Minimiser
from dino.log import logger
from dino.running.precision import full_precision_products

CHUNK_BYTES = 256 << 20
"""Of logits that exist at one time."""


@dataclass(frozen=True)
class Solution:
    """The classifier of one lambda."""

    weight: Tensor
    """(C, D), of the features' type."""
    objective: float
    gap: float
    """Bound on how far the objective is above its minimum, relative to it."""
    evaluations: int
    """Passes over the data."""
    converged: bool


def solve(
    features: Tensor,
    labels: Tensor,
    *,
    classes: int,
    lambdas: Sequence[float],
    tolerance: float = 1e-4,
    max_passes: int = 1000,
) -> list[Solution]:
    """The minimisers of the objective for each of ``lambdas``.

    A solution is converged where |gradient|^2 n / (2 lambda), which bounds the distance from the minimum (the objective
    is strongly convex), is at most ``tolerance`` times the objective: cyanure's criterion, with a stricter bound.

    Args:
        features: (n, D), rows of length 1. Products are computed in their type, sums of losses and steps in float64.
        labels: (n,) int64 class indices, or (n, C) int8 of 1, 0 and -1.
        classes: C.
        lambdas: Positive.
        tolerance: Relative; the authors' is 1e-3.
        max_passes: Over the data, for each lambda; the authors' is 100 epochs.
    """
    count, width = features.shape
    # The largest eigenvalue of the loss's Hessian is at most 1/2 (softmax) or 1/4 (binary) for rows of length 1.
    bound = 0.5 if labels.ndim == 1 else 0.25
    start = torch.zeros(classes * width, dtype=torch.float64, device=features.device)
    minimisers = [Minimiser(start, smoothness=bound + each / count) for each in lambdas]
    open_problems = list(range(len(lambdas)))
    converged = [False] * len(lambdas)
    for passes in range(1, max_passes + 1):
        points = torch.stack([minimisers[index].point for index in open_problems])
        weights = points.view(len(open_problems), classes, width)
        losses, gradients = loss_and_gradient(features, labels, weights.to(features.dtype))
        for row, index in enumerate(open_problems):
            strength, point = lambdas[index] / count, points[row]
            value = float(losses[row]) + strength / 2 * float(point @ point)
            minimisers[index].tell(value, gradients[row].flatten() + strength * point)
            converged[index] = _gap(minimisers[index], strength) <= tolerance
        open_problems = [i for i in open_problems if not converged[i] and not minimisers[i].stuck]
        if not open_problems:
            break
        if passes % 50 == 0:
            logger.info("logistic regression: %d passes, %d problems open", passes, len(open_problems))
    solutions = []
    for index, minimiser in enumerate(minimisers):
        assert minimiser.best is not None
        point, value, _ = minimiser.best
        gap = _gap(minimiser, lambdas[index] / count)
        weight = point.view(classes, width).to(features.dtype)
        solutions.append(Solution(weight, value, gap, minimiser.evaluations, converged[index]))
    return solutions


def loss_and_gradient(features: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss (A,) and its gradient (A, C, D), float64, of A classifiers ``weights`` (A, C, D)."""
    problems, classes, width = weights.shape
    flat = weights.reshape(problems * classes, width)
    total = torch.zeros(problems, dtype=torch.float64, device=features.device)
    gradient = torch.zeros(problems * classes, width, dtype=torch.float64, device=features.device)
    step = max(1, CHUNK_BYTES // (8 * problems * classes))
    with full_precision_products():
        for start in range(0, len(features), step):
            chunk, target = features[start : start + step], labels[start : start + step]
            logits = (chunk @ flat.t()).view(len(chunk), problems, classes)
            loss, residual = (_softmax if labels.ndim == 1 else _binary)(logits, target)
            total += loss
            gradient += residual.flatten(1).t() @ chunk
    return total / len(features), gradient.view(problems, classes, width) / len(features)


def _softmax(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (A,) float64, and its derivative by the logits (b, A, C)."""
    log_p = F.log_softmax(logits, dim=2)
    index = target[:, None, None].expand(-1, logits.shape[1], 1)
    loss = -log_p.gather(2, index)[:, :, 0].sum(0, dtype=torch.float64)
    return loss, log_p.exp_().scatter_add_(2, index, torch.full_like(index, -1, dtype=log_p.dtype))


def _binary(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same for tables of labels (b, C)."""
    judged, present = (target >= 0)[:, None], (target == 1)[:, None]
    loss = torch.where(judged, F.softplus(logits) - logits * present, 0.0).sum((0, 2), dtype=torch.float64)
    return loss, (torch.sigmoid(logits) - present.to(logits.dtype)) * judged


def _gap(minimiser: Minimiser, strength: float) -> float:
    assert minimiser.best is not None
    _, value, squared_gradient = minimiser.best
    return squared_gradient / (2 * strength) / value if value > 0 else math.inf
