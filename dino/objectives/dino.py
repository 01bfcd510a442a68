"""DINO: the student predicts the teacher's centred, sharpened output (paper.md, A.4; paper eq. 3), and its variants.

With student logits s_v of view v = 0 ... V-1 (the two globals come first), teacher logits t_q of the globals q = 0, 1
and the centre C::

    p_q  = softmax((t_q - C) / tau_t)                                          no gradient
    loss = mean over q, v != q and the batch of  -p_q . log_softmax(s_v / tau_s)
    C   <- m C + (1 - m) * mean of t                                           once a step, over all ranks

What takes the centre's place (Table 15; paper.md, A.9) makes the targets alone, with neither centre nor tau_t::

    sinkhorn       p = Sinkhorn-Knopp of t / tau over the batch, some iterations
    softmax_batch  p = the same with one iteration
    none           C = 0 (Fig. 7)

With the squared error (Tables 7 and 14) there is no softmax and no temperature ("no sharpening")::

    loss = mean over q, v != q and the batch of  | s_v / |s_v| - (t_q - C) / |t_q - C| |^2

Assumptions, where paper and code are silent: the squared error compares the K logits, as only the loss changes in these
rows (the unit vector before the prototypes instead is ``head_bottleneck: false, out_dim: 256``); Sinkhorn sees both
globals of the global batch as one batch, at SwAV's tau 0.05 and 3 iterations, for Softmax(batch) at the same tau.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dino.config import RunConfig
from dino.objectives.cross_entropy import pairwise_cross_entropy
from dino.objectives.objective import Objective
from dino.objectives.sinkhorn import sinkhorn
from dino.objectives.squared_error import pairwise_squared_error
from dino.objectives.statistics import of_distributions, spread
from dino.running.distributed import sum_over_ranks, world_size


class DinoObjective(Objective):
    """The loss, its centre and its teacher temperature.

    Args:
        out_dim: K, the number of prototypes.
        num_views: V, the two globals and the locals.
        loss: ``ce`` or ``mse``.
        centering: ``center``, ``softmax_batch``, ``sinkhorn`` or ``none``.
        student_temp: tau_s.
        teacher_temp: tau_t after the warm-up; 0 means one-hot targets, the argmax of t - C.
        warmup_teacher_temp: tau_t at the start of the linear warm-up; None for no warm-up.
        warmup_teacher_temp_epochs: Length of the warm-up (see `teacher_temperatures`).
        center_momentum: Weight of the old centre in the update.
        sinkhorn_temp: tau of ``softmax_batch`` and ``sinkhorn``.
        sinkhorn_iterations: Of ``sinkhorn``.

    Example:
        >>> import torch
        >>> from dino.objectives.dino import DinoObjective
        >>> objective = DinoObjective(out_dim=16, num_views=4)
        >>> student = torch.randn(4 * 8, 16, requires_grad=True)  # 4 views of 8 images, 16 prototypes
        >>> teacher = torch.randn(2 * 8, 16)  # of the two globals
        >>> loss, statistics = objective(student, teacher, epoch=0, with_stats=True)
        >>> loss.backward()
        >>> list(statistics)
        ['teacher_entropy', 'kl', 'output_std']
        >>> objective.step()  # after the optimizer's: moves the centre
        >>> torch.allclose(objective.center, 0.1 * teacher.mean(0), atol=1e-6)
        True
    """

    center: Tensor

    def __init__(
        self,
        *,
        out_dim: int,
        num_views: int,
        loss: str = "ce",
        centering: str = "center",
        student_temp: float = 0.1,
        teacher_temp: float = 0.07,
        warmup_teacher_temp: float | None = 0.04,
        warmup_teacher_temp_epochs: float = 30,
        center_momentum: float = 0.9,
        sinkhorn_temp: float = 0.05,
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__(num_views)
        self.loss, self.centering = loss, centering
        self.student_temp = student_temp
        self.center_momentum = center_momentum
        self.temperatures = teacher_temperatures(teacher_temp, warmup_teacher_temp, warmup_teacher_temp_epochs)
        self.sinkhorn_temp = sinkhorn_temp
        self.iterations = {"sinkhorn": sinkhorn_iterations, "softmax_batch": 1}.get(centering, 0)
        self.register_buffer("center", torch.zeros(1, out_dim))  # stays 0 where nothing is centred
        self._logit_sum: Tensor | None = None
        self._logit_rows = 0

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """DINO as ``config`` has it."""
        return cls(
            out_dim=config.out_dim,
            num_views=2 + config.num_local_crops,
            loss=config.loss,
            centering=config.centering,
            student_temp=config.student_temp,
            teacher_temp=config.teacher_temp,
            warmup_teacher_temp=config.warmup_teacher_temp,
            warmup_teacher_temp_epochs=config.warmup_teacher_temp_epochs,
            center_momentum=config.center_momentum,
            sinkhorn_temp=config.sinkhorn_temp,
            sinkhorn_iterations=config.sinkhorn_iterations,
        )

    def teacher_temp(self, epoch: int) -> float:
        """tau_t of an epoch (counted from 0)."""
        return self.temperatures[min(epoch, len(self.temperatures) - 1)]

    def hyperparameters(self, epoch: int) -> dict[str, float]:
        """The teacher temperature, where there is one."""
        return {} if self.iterations or self.loss == "mse" else {"teacher_temp": self.teacher_temp(epoch)}

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of logits (V * B, K) and (2 * B, K); the centre is the one before this step's update."""
        self._remember(teacher)
        if self.loss == "mse":
            targets = F.normalize(teacher.detach().float() - self.center, dim=-1)
            loss = pairwise_squared_error(F.normalize(student.float(), dim=-1), targets, self.pair_weights)
            return loss, spread(targets) if with_stats else {}
        targets = self.targets(teacher, epoch)
        loss = pairwise_cross_entropy(student, targets, self.num_views, self.student_temp)
        return loss, of_distributions(targets, loss) if with_stats else {}

    @torch.no_grad()
    def targets(self, teacher_logits: Tensor, epoch: int) -> Tensor:
        """p_q, (2 * B, K) float32: the teacher's probabilities."""
        if self.iterations:
            return sinkhorn(teacher_logits, self.sinkhorn_temp, self.iterations)
        centred = teacher_logits.detach().float() - self.center
        temperature = self.teacher_temp(epoch)
        if temperature == 0.0:
            return torch.zeros_like(centred).scatter_(-1, centred.argmax(-1, keepdim=True), 1.0)
        return torch.softmax(centred.div_(temperature), dim=-1)

    @torch.no_grad()
    def _remember(self, teacher_logits: Tensor) -> None:
        if self.centering != "center":
            return
        total = teacher_logits.detach().sum(0, keepdim=True, dtype=torch.float32)
        self._logit_sum = total if self._logit_sum is None else self._logit_sum.add_(total)
        self._logit_rows += len(teacher_logits)

    @torch.no_grad()
    def step(self) -> None:
        """C <- m C + (1 - m) * mean of the raw teacher logits over the step's micro-batches and all ranks.

        Call once per optimizer step, so that gradient accumulation does not move the centre more often
        (lightly PR #2062; paper.md, E.1).
        """
        if self.centering != "center":
            return
        if self._logit_sum is None:
            raise RuntimeError("step() without a forward since the last step()")
        mean = sum_over_ranks(self._logit_sum) / (self._logit_rows * world_size())
        self.center.mul_(self.center_momentum).add_(mean, alpha=1.0 - self.center_momentum)
        self._logit_sum, self._logit_rows = None, 0


def teacher_temperatures(end: float, start: float | None, warmup_epochs: float) -> list[float]:
    """tau_t of each warm-up epoch, ending with the value that holds from then on (paper.md, A.4).

    The warm-up is ``linspace(start, end, n)`` with both ends, n epochs long. A fraction is rounded, but a warm-up asked
    for lasts an epoch at least (so a run shortened to a few epochs still begins at ``start``).
    """
    if start is None or warmup_epochs == 0:
        return [end]
    return [*np.linspace(start, end, max(1, round(warmup_epochs))).tolist(), end]
