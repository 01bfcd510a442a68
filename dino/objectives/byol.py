"""BYOL: the student's prediction is to be the teacher's projection (paper.md, B.1; Table 14).

With the student's unit vectors s_v, after projector and predictor, and the teacher's t_q, after the projector alone::

    loss = mean over q, v != q and the batch of  |s_v - t_q|^2 = 2 - 2 s_v . t_q

There are no negatives and no centre: predictor and batch norm (``predictor``, ``head_bn``), both the head's, are what
keeps the output from being constant; without the predictor it collapses (Table 14, row 8). With locals, every view
meets both teacher globals as in DINO.

The paper's "larger head": 3 layers, BN after the hidden ones, 256 outputs. Assumption: the predictor is BYOL's own,
Linear -> 4096 -> BN -> ReLU -> 256.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor

from dino.config import RunConfig
from dino.objectives.objective import Objective
from dino.objectives.squared_error import pairwise_squared_error
from dino.objectives.statistics import spread


class ByolObjective(Objective):
    """The loss; it keeps nothing.

    Args:
        num_views: V, the two globals and the locals.

    Example:
        >>> import torch
        >>> from dino.objectives.byol import ByolObjective
        >>> vectors = torch.nn.functional.normalize(torch.randn(2 * 8, 16), dim=-1)
        >>> swapped = vectors.roll(8, dims=0)  # each view's vectors are the other view's
        >>> loss, _ = ByolObjective(num_views=2)(swapped, vectors, epoch=0)
        >>> round(abs(loss.item()), 5)
        0.0
    """

    prototypes = False

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """BYOL as ``config`` has it."""
        return cls(2 + config.num_local_crops)

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of unit vectors (V * B, D) and (2 * B, D)."""
        loss = pairwise_squared_error(student, teacher.detach(), self.pair_weights)
        return loss, spread(teacher) if with_stats else {}
