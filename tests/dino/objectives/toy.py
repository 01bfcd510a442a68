"""The objective of CONTRIBUTING's "adding an objective": the whole of what a new one needs."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dino.config import RunConfig
from dino.objectives.objective import Objective
from dino.objectives.pairing import by_view
from dino.objectives.statistics import spread


class CosineObjective(Objective):
    """Students' unit vectors near the mean of all teachers' so far: loss = mean over v, b of 1 - s_v . m."""

    prototypes = False  # the networks end in unit vectors
    mean: Tensor

    def __init__(self, num_views: int, dim: int) -> None:
        super().__init__(num_views)
        self.register_buffer("mean", torch.zeros(dim))  # a buffer: saved, and restored
        self._last = torch.zeros(())

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        return cls(2 + config.num_local_crops, config.head_bottleneck_dim)

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._last = by_view(teacher, 2).detach().mean((0, 1))
        loss = (1 - F.normalize(student, dim=-1) @ (self.mean + self._last)).mean()
        return loss, spread(teacher) if with_stats else {}

    def step(self) -> None:
        self.mean.lerp_(self._last, 0.1)

    def hyperparameters(self, epoch: int) -> dict[str, float]:
        return {"toy_epoch": float(epoch)}
