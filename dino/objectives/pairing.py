"""Which views are compared: every student view with both teacher globals, never with itself (paper.md, A.4, B.1).

With V views, the two globals first, that makes 2 V - 2 pairs (q, v), q != v, of equal weight: with no locals it is the
symmetric two-view average, with locals the multi-crop pairing of DINO, which all objectives share here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair_weights(num_views: int) -> Tensor:
    """(2, V): what teacher global q and student view v count as a pair; 0 where they are the same view. Sums to 1."""
    weights = torch.full((2, num_views), 1.0 / (2 * num_views - 2))
    weights.fill_diagonal_(0.0)
    return weights


def by_view(outputs: Tensor, num_views: int) -> Tensor:
    """(V * B, D), view-major, as (V, B, D); no copy."""
    return outputs.unflatten(0, (num_views, -1))


def summed_targets(targets: Tensor, num_views: int) -> list[tuple[Tensor, int]]:
    """Of each view, the sum of the targets (2 * B, K) it is compared with, (B, K), and how many they are.

    For a loss that is linear in the target this is all that the pairs come to.
    """
    first, second = targets.chunk(2)
    both = first + second if num_views > 2 else first
    return [(second, 1), (first, 1)] + [(both, 2)] * (num_views - 2)
