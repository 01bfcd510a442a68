"""DINO's loss: cross-entropy of the centred, sharpened teacher against the student (protocols A.4; paper eq. 3).

With student logits s_v of view v = 0 ... V-1 (the two globals come first), teacher logits t_q of the globals q = 0, 1
and the centre C::

    p_q  = softmax((t_q - C) / tau_t)                              no gradient
    loss = 1 / (2V - 2) * sum over q, v != q of  mean_b  -p_q . log_softmax(s_v / tau_s)

Since every p_q sums to one, ``-p . log_softmax(z) = logsumexp(z) - p . z``, and the sum over q moves inside: view v
meets the *summed* target of the globals it is compared with, ``P_0 = p_1``, ``P_1 = p_0``, ``P_v = p_0 + p_1``, of mass
n_v = 1, 1, 2::

    loss       = 1 / (2V - 2) * sum_v mean_b  n_v logsumexp(s_v / tau_s) - P_v . s_v / tau_s
    dloss/ds_v = (n_v softmax(s_v / tau_s) - P_v) / (tau_s B (2V - 2))

so that each logit is read once, whatever the number of pairs, and one gradient buffer is all that is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dino.training.distributed import sum_over_ranks, world_size


class DinoObjective(nn.Module):
    """The loss, its centre and its teacher temperature.

    Args:
        out_dim: K, the number of prototypes.
        num_views: V, the two globals and the locals.
        student_temp: tau_s.
        teacher_temp: tau_t after the warm-up; 0 means one-hot targets, the argmax of t - C.
        warmup_teacher_temp: tau_t at the start of the linear warm-up; None for no warm-up.
        warmup_teacher_temp_epochs: Length of the warm-up (see `teacher_temperatures`).
        center_momentum: Weight of the old centre in the update.
    """

    center: Tensor

    def __init__(
        self,
        *,
        out_dim: int,
        num_views: int,
        student_temp: float = 0.1,
        teacher_temp: float = 0.07,
        warmup_teacher_temp: float | None = 0.04,
        warmup_teacher_temp_epochs: float = 30,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.num_views = num_views
        self.student_temp = student_temp
        self.center_momentum = center_momentum
        self.temperatures = teacher_temperatures(teacher_temp, warmup_teacher_temp, warmup_teacher_temp_epochs)
        self.register_buffer("center", torch.zeros(1, out_dim))
        self._logit_sum: Tensor | None = None
        self._logit_rows = 0

    def teacher_temp(self, epoch: int) -> float:
        """tau_t of an epoch (counted from 0)."""
        return self.temperatures[min(epoch, len(self.temperatures) - 1)]

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch; the centre is the one before this step's update.

        Args:
            student_logits: (V * B, K), view-major.
            teacher_logits: (2 * B, K), view-major, without gradient.
            epoch: Counted from 0; sets the teacher temperature.
            with_stats: Also compute the statistics of Fig. 7; off, a step pays nothing for them.

        Returns:
            The loss (scalar, float32), and ``{"teacher_entropy", "kl"}``: h(P_t) and KL(P_t || P_s) in nats, detached,
            averaged over the pairs (empty without ``with_stats``).
        """
        targets = self.targets(teacher_logits, epoch)
        loss = _PairwiseCrossEntropy.apply(student_logits, targets, self.num_views, self.student_temp)
        self._remember(teacher_logits)
        if not with_stats:
            return loss, {}
        entropy = torch.special.entr(targets).sum(-1).mean()
        # Every q stands in as many pairs, so the mean over pairs of CE = h + KL splits exactly (protocols B.8).
        return loss, {"teacher_entropy": entropy, "kl": loss.detach() - entropy}

    @torch.no_grad()
    def targets(self, teacher_logits: Tensor, epoch: int) -> Tensor:
        """p_q, (2 * B, K) float32: centred and sharpened teacher probabilities."""
        centred = teacher_logits.detach().float() - self.center
        temperature = self.teacher_temp(epoch)
        if temperature == 0.0:
            return torch.zeros_like(centred).scatter_(-1, centred.argmax(-1, keepdim=True), 1.0)
        return torch.softmax(centred.div_(temperature), dim=-1)

    @torch.no_grad()
    def _remember(self, teacher_logits: Tensor) -> None:
        total = teacher_logits.detach().sum(0, keepdim=True, dtype=torch.float32)
        self._logit_sum = total if self._logit_sum is None else self._logit_sum.add_(total)
        self._logit_rows += len(teacher_logits)

    @torch.no_grad()
    def step(self) -> None:
        """C <- m C + (1 - m) * mean of the raw teacher logits over the step's micro-batches and all ranks.

        Call once per optimizer step, so that gradient accumulation does not move the centre more often
        (lightly PR #2062, protocols E).
        """
        if self._logit_sum is None:
            raise RuntimeError("step() without a forward since the last step()")
        mean = sum_over_ranks(self._logit_sum) / (self._logit_rows * world_size())
        self.center.mul_(self.center_momentum).add_(mean, alpha=1.0 - self.center_momentum)
        self._logit_sum, self._logit_rows = None, 0


def teacher_temperatures(end: float, start: float | None, warmup_epochs: float) -> list[float]:
    """tau_t of each warm-up epoch, ending with the value that holds from then on (A.4).

    The warm-up is ``linspace(start, end, n)`` with both ends, n epochs long. A fraction is rounded, but a warm-up asked
    for lasts an epoch at least (so a run shortened to a few epochs still begins at ``start``).
    """
    if start is None or warmup_epochs == 0:
        return [end]
    return [*np.linspace(start, end, max(1, round(warmup_epochs))).tolist(), end]


class _PairwiseCrossEntropy(torch.autograd.Function):
    """The mean over pairs and batch of -p_q . log_softmax(s_v / tau), with its gradient written out (module text)."""

    @staticmethod
    def forward(ctx: Any, student_logits: Tensor, targets: Tensor, num_views: int, temperature: float) -> Tensor:
        views = student_logits.chunk(num_views)  # V of (B, K)
        summed = _summed_targets(targets, num_views)
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
            _summed_targets(targets, ctx.num_views),
            strict=True,
        )
        for view, out, normaliser, (target, mass) in rows:
            softmax = (view.float() * (1.0 / ctx.temperature)).sub_(normaliser).exp_()
            out.copy_(torch.sub(softmax.mul_(mass), target, out=softmax).mul_(scale))
        return gradient, None, None, None


def _summed_targets(targets: Tensor, num_views: int) -> list[tuple[Tensor, int]]:
    """Of each view, the sum of the targets it is compared with (B, K) and how many they are."""
    first, second = targets.chunk(2)
    both = first + second if num_views > 2 else first
    return [(second, 1), (first, 1)] + [(both, 2)] * (num_views - 2)
