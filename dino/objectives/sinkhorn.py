"""Sinkhorn-Knopp: teacher logits to targets whose mass is spread evenly over the prototypes (paper.md, A.9).

With Q = exp(x / tau), n rows (images) and K columns (prototypes), repeat: divide each column by its sum over the batch,
then each row by its sum. As the divisions only ever scale rows and columns, Q stays exp(x / tau + r + c) with a number
r_i for each row and c_k for each column, and the iteration is, in logarithms::

    c_k = -logsumexp_i (x_ik / tau + r_i)        over the whole batch: all ranks
    r_i = -logsumexp_k (x_ik / tau + c_k)

Nothing overflows, and no sum can be zero, whatever the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dino.running.distributed import max_over_ranks, sum_over_ranks


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Targets, float32 of the logits' shape; rows sum to one.

    One iteration is Softmax(batch): a softmax over the batch axis, then rows divided by their sums. The batch is what
    this call sees on all ranks together: with gradient accumulation a micro-batch.

    Args:
        logits: (..., n, K) on this rank; leading axes are separate problems.
        temperature: tau.
        iterations: At least 1.

    Example:
        >>> import torch
        >>> from dino.objectives.sinkhorn import sinkhorn
        >>> logits = torch.randn(64, 4) + torch.tensor([9.0, 0.0, 0.0, 0.0])  # one prototype wins everywhere
        >>> [round(mass) for mass in sinkhorn(logits, temperature=1.0, iterations=50).sum(0).tolist()]
        [16, 16, 16, 16]
    """
    scores = logits.float() / temperature
    rows = torch.zeros_like(scores[..., :1])
    for _ in range(iterations):
        columns = -_logsumexp_over_batch(scores + rows)
        rows = -torch.logsumexp(scores + columns, dim=-1, keepdim=True)
    return torch.softmax(scores + columns, dim=-1)  # the last rows exactly


def _logsumexp_over_batch(scores: Tensor) -> Tensor:
    """(..., n, K) -> (..., 1, K): over n and over all ranks."""
    local = torch.logsumexp(scores, dim=-2, keepdim=True)
    top = max_over_ranks(local.clone())
    return top + sum_over_ranks((local - top).exp_()).log_()
