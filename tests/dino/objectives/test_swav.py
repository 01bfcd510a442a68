from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dino.objectives.factory import build_objective
from dino.objectives.swav import SwavObjective
from tests.dino.objectives import reference
from tests.dino.training.tiny import tiny_config


def swapped_prediction(student: np.ndarray, teacher: np.ndarray, views: int) -> float:
    """Codes of each global by itself, at SwAV's settings."""
    codes = np.concatenate([reference.sinkhorn(view, 0.05, 3) for view in np.split(teacher, 2)])
    return reference.cross_entropy(student, codes, views, 0.1)


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 5), local_views=st.integers(0, 4), out_dim=st.integers(2, 30), seed=st.integers(0, 1000))
def test_the_loss_is_the_swapped_prediction_of_codes_over_all_pairs(
    batch: int, local_views: int, out_dim: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = 2 + local_views
    student = torch.rand(views * batch, out_dim, generator=generator) * 2 - 1
    teacher = torch.rand(2 * batch, out_dim, generator=generator) * 2 - 1
    loss, _ = SwavObjective(num_views=views)(student, teacher, 0)
    expected = swapped_prediction(student.double().numpy(), teacher.double().numpy(), views)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_golden_value() -> None:
    # One image: its code is uniform whatever its logits, as every prototype gets its only image.
    student = torch.tensor([[0.1, 0.0], [0.0, 0.2]])
    teacher = torch.tensor([[0.9, -0.4], [0.3, 0.1]])
    halves = [-(0.5 * math.log(1 / (1 + math.exp(-a))) + 0.5 * math.log(1 / (1 + math.exp(a)))) for a in (1.0, 2.0)]
    loss, stats = SwavObjective(num_views=2)(student, teacher, 0, with_stats=True)
    assert loss.item() == pytest.approx(sum(halves) / 2, rel=1e-5)
    assert stats["teacher_entropy"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert stats["kl"].item() == pytest.approx(sum(halves) / 2 - math.log(2), rel=1e-4)


def test_no_gradient_reaches_the_codes_and_the_students_is_that_of_differences() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    SwavObjective(num_views=3)(student, teacher, 0)[0].backward()
    assert teacher.grad is None
    exact = teacher.detach().double().numpy()
    expected = reference.gradient(lambda at: swapped_prediction(at, exact, 3), student.detach().double().numpy())
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_settings_come_from_the_configuration() -> None:
    config = tiny_config(
        objective="swav", teacher="student_copy", student_temp=0.2, sinkhorn_temp=0.07, sinkhorn_iterations=5
    )
    objective = build_objective(config)
    assert isinstance(objective, SwavObjective)
    assert (objective.num_views, objective.student_temp) == (4, 0.2)
    assert (objective.sinkhorn_temp, objective.sinkhorn_iterations) == (0.07, 5)
    assert objective.state_dict() == {}
