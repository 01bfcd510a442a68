"""mAP and mP@k of the Revisited Oxford and Paris benchmarks (paper.md, C.5), and what a random ranking would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

SETUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""What counts as positive and what is left out of the ranking; the rest is negative."""

PRECISION_AT = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class RankingScore:
    """Means over the queries that have positives; proportions from 0 to 1."""

    map: float
    precision: dict[int, float]
    """mP@k by k."""
    queries: int
    chance: float
    """The mAP that a random ranking has on average, by `chance_ap`."""


def score_setup(orders: Sequence[Indices], truth: Sequence[Mapping[str, Indices]], setup: str) -> RankingScore | None:
    """The score of one of `SETUPS`; None where no query has a positive.

    Args:
        orders: For each query the database's indices by falling similarity. An image that is in none of them is
            treated as if the database had never held it.
        truth: For each query its ``easy``, ``hard`` and ``junk`` indices.
        setup: ``easy``, ``medium`` or ``hard``.
    """
    wanted, left_out = SETUPS[setup]
    aps, chances = [], []
    precisions: dict[int, list[float]] = {k: [] for k in PRECISION_AT}
    for order, lists in zip(orders, truth, strict=True):
        positives = np.concatenate([lists[name] for name in wanted])
        ranking = order[~np.isin(order, np.concatenate([lists[name] for name in left_out]))]
        ranks = np.flatnonzero(np.isin(ranking, positives))
        if len(ranks) == 0:  # every image is ranked somewhere, so there is none to find
            continue
        aps.append(average_precision(ranks, positives=len(ranks)))
        chances.append(chance_ap(len(ranks), len(ranking)))
        for k in PRECISION_AT:
            precisions[k].append(_precision_at(ranks, k))
    if not aps:
        return None
    return RankingScore(
        map=float(np.mean(aps)),
        precision={k: float(np.mean(values)) for k, values in precisions.items()},
        queries=len(aps),
        chance=float(np.mean(chances)),
    )


def average_precision(ranks: Indices, *, positives: int) -> float:
    """Area under the precision-recall curve by trapezoids (the Holidays and Oxford benchmarks' definition).

    Args:
        ranks: Of the positives that were found, from 0, ascending, with junk taken out.
        positives: How many there are, found or not.
    """
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    after = (found + 1) / (ranks + 1)
    return float((before + after).sum() / (2 * positives))


def chance_ap(positives: int, images: int, *, depth: int | None = None) -> float:
    """Expected `average_precision` of a random order of ``images``, of which the first ``depth`` count (default all).

    Rank r holds a positive with probability n/N; given that, each of the r - 1 ranks before it holds another with
    probability c = (n - 1)/(N - 1). The mean precision after rank r is then (1 + (r - 1) c)/r, and before it c, or 1
    where r is the first.
    """
    depth = images if depth is None else min(depth, images)
    another = (positives - 1) / (images - 1) if images > 1 else 0.0
    rank = np.arange(1, depth + 1)
    after = ((1 + (rank - 1) * another) / rank).sum()
    before = 1 + (depth - 1) * another
    return float((after + before) / (2 * images))


def _precision_at(ranks: Indices, k: int) -> float:
    """Precision at ``k``, or at the last positive's rank where that comes first."""
    depth = min(int(ranks[-1]) + 1, k)
    return float(np.count_nonzero(ranks < depth) / depth)
