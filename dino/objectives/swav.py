"""SwAV: one view's prototypes predict the codes of another (paper.md, B.1; Tables 7, 13 and 15).

The codes of a global view are its logits after Sinkhorn-Knopp over the global batch, each global by itself, without
gradient; with the logits s_v of view v::

    code_q = Sinkhorn-Knopp(s_q / epsilon)                                       no gradient
    loss   = mean over q, v != q and the batch of  -code_q . log_softmax(s_v / tau)

There is no momentum: the codes come from a copy of the student (``teacher: student_copy``), which has no stochastic
depth. The prototypes are of unit length (``norm_last_layer``).

Assumptions, not stated for the authors' runs: tau 0.1, epsilon 0.05 and 3 iterations are SwAV's own; it has no queue,
which SwAV's authors use for small batches alone.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor

from dino.config import RunConfig
from dino.objectives.cross_entropy import pairwise_cross_entropy
from dino.objectives.objective import Objective
from dino.objectives.pairing import by_view
from dino.objectives.sinkhorn import sinkhorn
from dino.objectives.statistics import of_distributions


class SwavObjective(Objective):
    """The loss; it keeps nothing.

    Args:
        num_views: V, the two globals and the locals.
        student_temp: tau.
        sinkhorn_temp: epsilon.
        sinkhorn_iterations: Of Sinkhorn-Knopp.

    Example:
        >>> import torch
        >>> from dino.objectives.swav import SwavObjective
        >>> student, teacher = torch.randn(4 * 8, 16, requires_grad=True), torch.randn(2 * 8, 16)
        >>> loss, _ = SwavObjective(num_views=4)(student, teacher, epoch=0)
        >>> loss.backward()
    """

    def __init__(
        self,
        *,
        num_views: int,
        student_temp: float = 0.1,
        sinkhorn_temp: float = 0.05,
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__(num_views)
        self.student_temp = student_temp
        self.sinkhorn_temp = sinkhorn_temp
        self.sinkhorn_iterations = sinkhorn_iterations

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """SwAV as ``config`` has it."""
        return cls(
            num_views=2 + config.num_local_crops,
            student_temp=config.student_temp,
            sinkhorn_temp=config.sinkhorn_temp,
            sinkhorn_iterations=config.sinkhorn_iterations,
        )

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of logits (V * B, K) and (2 * B, K)."""
        codes = sinkhorn(by_view(teacher, 2), self.sinkhorn_temp, self.sinkhorn_iterations).flatten(0, 1)
        loss = pairwise_cross_entropy(student, codes, self.num_views, self.student_temp)
        return loss, of_distributions(codes, loss) if with_stats else {}
