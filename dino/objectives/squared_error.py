"""Mean squared error of unit vectors over all pairs of views, BYOL's loss: |a - b|^2 = 2 - 2 a . b (paper.md, B.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dino.objectives.pairing import by_view


def pairwise_squared_error(student: Tensor, teacher: Tensor, pair_weights: Tensor) -> Tensor:
    """The mean over pairs and batch (scalar, float32), between 0 and 4.

    Args:
        student: (V * B, D) unit vectors, view-major.
        teacher: (2 * B, D) unit vectors, without gradient.
        pair_weights: (2, V).
    """
    students = by_view(student.float(), pair_weights.shape[1])
    teachers = by_view(teacher.float(), 2)
    cosines = torch.einsum("qbd,vbd->qv", teachers, students) / students.shape[1]  # each a mean over the batch
    return (pair_weights * (2.0 - 2.0 * cosines)).sum()
