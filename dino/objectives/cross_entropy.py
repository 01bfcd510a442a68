"""Cross-entropy of soft targets against the student's softmax, over all pairs of views at once.

With student logits s_v of view v = 0 ... V-1 and targets p_q of the globals q = 0, 1::

    loss = 1 / (2V - 2) * sum over q, v != q of  mean_b  -p_q . log_softmax(s_v / tau)

Since every p_q sums to one, ``-p . log_softmax(z) = logsumexp(z) - p . z``, and the sum over q moves inside: view v
meets the *summed* target of the globals it is compared with, ``P_0 = p_1``, ``P_1 = p_0``, ``P_v = p_0 + p_1``, of mass
n_v = 1, 1, 2::

    loss       = 1 / (2V - 2) * sum_v mean_b  n_v logsumexp(s_v / tau) - P_v . s_v / tau
    dloss/ds_v = (n_v softmax(s_v / tau) - P_v) / (tau B (2V - 2))

so that each logit is read once, whatever the number of pairs, and one gradient buffer is all that is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dino.objectives.pairing import summed_targets


def pairwise_cross_entropy(student_logits: Tensor, targets: Tensor, num_views: int, temperature: float) -> Tensor:
    """The mean over pairs and batch (scalar, float32).

    Args:
        student_logits: (V * B, K), view-major.
        targets: (2 * B, K) float32, without gradient; every row sums to one.
        num_views: V.
        temperature: tau, the student's.
    """
    loss: Tensor = _PairwiseCrossEntropy.apply(student_logits, targets, num_views, temperature)
    return loss


class _PairwiseCrossEntropy(torch.autograd.Function):
    """The loss with its gradient written out (module text)."""

    @staticmethod
    def forward(ctx: Any, student_logits: Tensor, targets: Tensor, num_views: int, temperature: float) -> Tensor:
        views = student_logits.chunk(num_views)  # V of (B, K)
        summed = summed_targets(targets, num_views)
        normalisers = student_logits.new_empty((len(student_logits), 1), dtype=torch.float32)
        total = torch.zeros((), device=student_logits.device, dtype=torch.float32)
        for view, (target, mass), normaliser in zip(views, summed, normalisers.chunk(num_views), strict=True):
            scaled = view.float() * (1.0 / temperature)
            torch.logsumexp(scaled, dim=-1, keepdim=True, out=normaliser)
            total += mass * normaliser.sum() - torch.dot(target.flatten(), scaled.flatten())
        batch = len(student_logits) // num_views
        ctx.save_for_backward(student_logits, targets, normalisers)
        ctx.num_views, ctx.temperature = num_views, temperature
        ctx.weight = 1.0 / (batch * (2 * num_views - 2))
        return total.mul_(ctx.weight)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        student_logits, targets, normalisers = ctx.saved_tensors
        gradient = torch.empty_like(student_logits)
        scale = upstream[0] * (ctx.weight / ctx.temperature)
        rows = zip(
            student_logits.chunk(ctx.num_views),
            gradient.chunk(ctx.num_views),
            normalisers.chunk(ctx.num_views),
            summed_targets(targets, ctx.num_views),
            strict=True,
        )
        for view, out, normaliser, (target, mass) in rows:
            softmax = (view.float() * (1.0 / ctx.temperature)).sub_(normaliser).exp_()
            out.copy_(torch.sub(softmax.mul_(mass), target, out=softmax).mul_(scale))
        return gradient, None, None, None
