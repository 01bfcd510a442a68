"""Weighted k-NN classification (paper.md, C.1; paper section 3.2): exact, every k in one pass.

A neighbour votes exp(similarity / T) for its class. The votes are sums over the first k neighbours, so that those for
20 continue those for 10, and no (N, k, classes) table is made. A test image's target is right at rank r if fewer than
r classes come before it: those with more votes and, at equal votes, those of a lower class index. Classes without a
vote thus fill up the top 5 in class order, as they do in the authors' code (a stable descending sort).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.scoring.neighbours import iterate_neighbours, normalise_


@dataclass(frozen=True)
class KnnScore:
    """Right predictions among ``total`` test images, for one k."""

    top1_correct: int
    top5_correct: int
    total: int

    @property
    def top1(self) -> float:
        """Percent of the test images whose class has the most votes."""
        return 100.0 * self.top1_correct / self.total

    @property
    def top5(self) -> float:
        """Percent of the test images whose class is among the five with the most votes (the first k if k < 5)."""
        return 100.0 * self.top5_correct / self.total


def score_knn(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    ks: Sequence[int],
    temperature: float = 0.07,
    normalised: bool = False,
    memory_mib: int = 512,
) -> dict[int, KnnScore]:
    """Weighted k-NN accuracy for each of ``ks``.

    Args:
        train_features: (N, D), any scale unless ``normalised``.
        train_labels: (N,) class indices from 0.
        test_features: (M, D), M at least 1.
        test_labels: (M,).
        ks: Numbers of neighbours, each at most N; any order.
        temperature: T of the votes exp(similarity / T); 0.07 in the paper.
        normalised: The rows have length 1 already; else normalised copies are made.
        memory_mib: What a chunk of test images may take beyond the features, in MiB.

    Raises:
        UserError: Empty sets, a k beyond the training set, unequal widths or lengths, or a wrong temperature.

    Example:
        >>> import torch
        >>> from dino.evaluation.scoring.votes import score_knn
        >>> centres = 3 * torch.randn(5, 32)  # five classes that are easily told apart
        >>> train_labels, test_labels = torch.arange(100) % 5, torch.arange(50) % 5
        >>> train, test = (centres[y] + torch.randn(len(y), 32) for y in (train_labels, test_labels))
        >>> scores = score_knn(train, train_labels, test, test_labels, ks=[10, 20])
        >>> scores[20].top1
        100.0
    """
    _check(train_features, train_labels, test_features, test_labels, ks, temperature)
    if not normalised:
        train_features, test_features = (
            normalise_(f.to(torch.float32, copy=True)) for f in (train_features, test_features)
        )
    ordered = sorted(set(ks))
    classes = 1 + int(torch.maximum(train_labels.max(), test_labels.max()))
    correct = torch.zeros(2, len(ordered), dtype=torch.int64, device=test_features.device)
    limits = torch.tensor([[1] * len(ordered), [min(5, k) for k in ordered]], device=test_features.device)
    chunks = iterate_neighbours(
        test_features, train_features, k=ordered[-1], memory_mib=memory_mib, reserve_bytes_per_query=12 * classes
    )
    for rows, similarities, indices in chunks:
        ranks = target_ranks(
            similarities,
            train_labels[indices],
            test_labels[rows],
            ks=ordered,
            temperature=temperature,
            classes=classes,
        )
        correct += (ranks[None] < limits[:, :, None]).sum(2)
    top1, top5 = correct.tolist()
    total = len(test_labels)
    return {k: KnnScore(top1[i], top5[i], total) for i, k in enumerate(ordered)}


def target_ranks(
    similarities: Tensor, labels: Tensor, targets: Tensor, *, ks: Sequence[int], temperature: float, classes: int
) -> Tensor:
    """Classes that come before the target's own, for each k and query.

    Args:
        similarities: (B, K) of the neighbours, descending.
        labels: (B, K) of the neighbours.
        targets: (B,).
        ks: Ascending, the last at most K.
        temperature: T of the votes.
        classes: Number of classes.

    Returns:
        (len(ks), B) int64; 0 is a right prediction.
    """
    # A common factor changes no ranking: with the nearest neighbour's vote at 1 nothing overflows, however small T is.
    # In float64 the sums do not depend on the order in which a GPU adds them, but for rounding far below any vote.
    weights = (similarities - similarities[:, :1]).double().div_(temperature).exp_()
    votes = torch.zeros(len(targets), classes, dtype=torch.float64, device=targets.device)
    before = torch.arange(classes, device=targets.device) < targets[:, None]
    ranks = []
    for start, stop in itertools.pairwise([0, *ks]):
        votes.scatter_add_(1, labels[:, start:stop], weights[:, start:stop])
        own = votes.gather(1, targets[:, None])
        ranks.append(((votes > own) | ((votes == own) & before)).sum(1))
    return torch.stack(ranks)


def _check(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ks: Sequence[int],
    temperature: float,
) -> None:
    for name, features, labels in (
        ("training", train_features, train_labels),
        ("test", test_features, test_labels),
    ):
        if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
            raise UserError(
                f"the {name} set has features of shape {tuple(features.shape)} and labels of shape "
                f"{tuple(labels.shape)}; expected (N, D) and (N,)"
            )
        if len(labels) == 0:
            raise UserError(f"the {name} set is empty: k-NN needs at least one image in it")
        if int(labels.min()) < 0:
            raise UserError(f"the {name} set has a negative label ({int(labels.min())}): classes count from 0")
    if not ks or min(ks) < 1:
        raise UserError(f"k must be at least 1 (got {', '.join(map(str, ks)) or 'none'})")
    if max(ks) > len(train_labels):
        raise UserError(f"k = {max(ks)} is larger than the training set of {len(train_labels)} images")
    if not temperature > 0:
        raise UserError(f"the temperature of k-NN's votes must be positive (got {temperature:g})")
