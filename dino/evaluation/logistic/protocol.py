"""Logistic regression as a protocol: two feature sets in, a metrics file out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.document import describe_pair
from dino.evaluation.features.pairs import FeaturePair
from dino.evaluation.logistic.solve import CHUNK_BYTES, Solution, solve
from dino.evaluation.scoring.accuracy import count_right
from dino.evaluation.scoring.multilabel import mean_precision, random_precision, undefined_note
from dino.evaluation.scoring.neighbours import normalise_
from dino.metrics import Measure, MetricsFile, percent
from dino.running.precision import full_precision_products

LAMBDAS = (0.01, 0.1, 1.0)
HEADLINE = 0.1
"""The authors' values and their best (paper.md, C.4)."""


def evaluate_logistic(
    pair: FeaturePair,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    headline: float = HEADLINE,
    tolerance: float = 1e-4,
    max_passes: int = 1000,
    device: torch.device,
) -> MetricsFile:
    """Logistic regression on the normalised features (in place), a classifier for each lambda.

    Args:
        pair: Training and test features.
        lambdas: Strengths of regularisation; ``headline`` is added where it is missing.
        headline: The lambda of ``top1``, or of ``map`` for several labels an image.
        tolerance: Of the objective, relative.
        max_passes: Over the training features, for each lambda.
        device: Where to solve.

    Raises:
        UserError: A lambda or the tolerance is not positive.
    """
    used = sorted({*lambdas, headline})
    if used[0] <= 0 or tolerance <= 0:
        raise UserError(f"lambda and tolerance must be positive (got {used[0]:g} and {tolerance:g})")
    train = normalise_(torch.from_numpy(pair.train.features).to(device))
    test = normalise_(torch.from_numpy(pair.test.features).to(device))
    several = pair.train.multi_label
    # Labels of files from elsewhere may leave numbers out.
    known = np.arange(pair.classes) if several else np.unique(pair.train.labels)
    labels = pair.train.labels if several else np.searchsorted(known, pair.train.labels)
    solutions = solve(
        train,
        torch.from_numpy(labels).to(device),
        classes=len(known),
        lambdas=used,
        tolerance=tolerance,
        max_passes=max_passes,
    )
    notes = [_unfinished(strength, each) for strength, each in zip(used, solutions, strict=True) if not each.converged]
    weights = torch.stack([solution.weight for solution in solutions])
    if several:
        metrics, values = _precisions(test, weights, pair.test.labels, used.index(headline))
        chance = random_precision(pair.test.labels)
        notes += undefined_note(pair.test.labels)
    else:
        targets = torch.from_numpy(np.searchsorted(known, pair.test.labels)).to(device)
        metrics, values = _accuracies(test, weights, targets, used.index(headline))
        chance = 100.0 / pair.classes
    best = used[int(np.argmax(values))]
    name = "map" if several else "top1"
    if len(used) > 1:
        notes.append(f"{name}_best is the best lambda on the test set itself: {best:g}")
    settings: dict[str, Any] = {
        "headline_lambda": headline,
        "best_lambda": best,
        "lambdas": [
            {"lambda": strength, name: value, "passes": each.evaluations, "gap": each.gap, "objective": each.objective}
            for strength, value, each in zip(used, values, solutions, strict=True)
        ],
        "objective": "mean loss + lambda / (2 n) |W|^2, no intercept, features of length 1",
        "tolerance": tolerance,
    }
    return describe_pair("logistic", pair, metrics, chance=chance, settings=settings, device=device, notes=notes)


def format_table(document: MetricsFile) -> str:
    """The accuracies for a person: a line for each lambda, the headline marked."""
    settings = document.settings
    name = "map" if "map" in document.metrics else "top1"
    lines = [f"logistic regression: {document.data.test} test images, {document.data.train} training images"]
    lines.append(f"{'lambda':>8}  {'mAP %' if name == 'map' else 'top-1 %':>8}  {'passes':>6}")
    for row in settings["lambdas"]:
        mark = "  headline" if row["lambda"] == settings["headline_lambda"] else ""
        lines.append(f"{row['lambda']:>8g}  {row[name]:>8.2f}  {row['passes']:>6}{mark}")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _accuracies(
    test: Tensor, weights: Tensor, targets: Tensor, headline: int
) -> tuple[dict[str, Measure], list[float]]:
    counts = torch.zeros(2, len(weights), dtype=torch.int64, device=test.device)
    for rows, logits in _logits(test, weights):
        counts += count_right(logits, targets[rows])
    top1, top5 = counts.tolist()
    measures = {
        "top1": percent(top1[headline], len(test)),
        "top5": percent(top5[headline], len(test)),
        "top1_best": percent(max(top1), len(test)),
    }
    return measures, [100.0 * right / len(test) for right in top1]


def _precisions(
    test: Tensor, weights: Tensor, labels: np.ndarray, headline: int
) -> tuple[dict[str, Measure], list[float]]:
    scores = torch.cat([logits.cpu() for _, logits in _logits(test, weights)]).numpy()
    precisions = [mean_precision(scores[:, index], labels) for index in range(len(weights))]
    areas = [precision.area for precision in precisions]
    measures = {
        "map": Measure(value=areas[headline], unit="%"),
        "map_11point": Measure(value=precisions[headline].eleven_point, unit="%"),
        "map_best": Measure(value=max(areas), unit="%"),
    }
    return measures, areas


def _logits(test: Tensor, weights: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of ``test`` and their logits (b, A, C), chunk by chunk."""
    problems, classes, width = weights.shape
    step = max(1, CHUNK_BYTES // (16 * problems * classes))
    flat = weights.reshape(problems * classes, width).t()
    with full_precision_products():
        for start in range(0, len(test), step):
            rows = slice(start, start + step)
            yield rows, (test[rows] @ flat).view(-1, problems, classes)


def _unfinished(strength: float, solution: Solution) -> str:
    return (
        f"lambda = {strength:g} stopped {solution.gap:.1g} (relative) above the minimum or closer, after "
        f"{solution.evaluations} passes"
    )
