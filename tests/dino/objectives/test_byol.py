from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dino.config import RunConfig
from dino.models import build_networks
from dino.objectives.byol import ByolObjective
from dino.objectives.factory import build_objective
from tests.dino.objectives import reference
from tests.dino.training.tiny import tiny_config


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 4), local_views=st.integers(0, 4), dim=st.integers(2, 20), seed=st.integers(0, 1000))
def test_the_loss_is_the_squared_distance_of_unit_vectors_over_all_pairs(
    batch: int, local_views: int, dim: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = 2 + local_views
    student = F.normalize(torch.randn(views * batch, dim, generator=generator), dim=-1)
    teacher = F.normalize(torch.randn(2 * batch, dim, generator=generator), dim=-1)
    loss, _ = ByolObjective(views)(student, teacher, 0)
    expected = reference.squared_error(student.double().numpy(), teacher.double().numpy(), views)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_golden_values() -> None:
    # Two views of one image: the pairs are (t0, s1) and (t1, s0), of cosines 1 and 0: (0 + 2) / 2.
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    teacher = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    assert ByolObjective(2)(student, teacher, 0)[0].item() == pytest.approx(1.0)
    # Opposite vectors are as bad as it gets, equal ones cost nothing; a third view meets both globals.
    assert ByolObjective(2)(student[[0, 0]], -student[[0, 0]], 0)[0].item() == pytest.approx(4.0)
    three = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    expected = ((2 - 2 * 1.0) + (2 - 2 * 1.0) + (2 - 2 * 0.6) + (2 - 2 * 0.0)) / 4
    assert ByolObjective(3)(three, teacher, 0)[0].item() == pytest.approx(expected)


def test_the_gradient_through_the_normalisation_is_that_of_differences() -> None:
    torch.manual_seed(0)
    raw, teacher = torch.randn(6, 5, requires_grad=True), F.normalize(torch.randn(4, 5), dim=-1)
    ByolObjective(3)(F.normalize(raw, dim=-1), teacher, 0)[0].backward()
    exact = teacher.double().numpy()
    expected = reference.gradient(lambda at: reference.squared_error(at, exact, 3), raw.detach().double().numpy())
    assert raw.grad is not None
    np.testing.assert_allclose(raw.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_student_predicts_and_the_teacher_does_not() -> None:
    config = tiny_config(objective="byol", predictor=True, head_bn=True, predictor_hidden_dim=20)
    student, teacher = build_networks(config)
    assert student.head.last_layer is None
    assert isinstance(student.head.predictor, nn.Sequential)
    assert [type(module).__name__ for module in student.head.predictor] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [(m.in_features, m.out_features) for m in student.head.predictor if isinstance(m, nn.Linear)] == [
        (12, 20),
        (20, 12),
    ]
    assert teacher.head.predictor is None
    views = [torch.randn(4, 3, 8, 8)]
    for network in (student, teacher):
        torch.testing.assert_close(network(views).norm(dim=-1), torch.ones(4))
    assert network(views).shape == (4, config.head_bottleneck_dim)
    extra = set(student.state_dict()) - set(teacher.state_dict())
    assert {name.split(".")[1] for name in extra} == {"predictor"}


def test_it_keeps_nothing_and_tells_the_spread_of_the_teachers_vectors() -> None:
    torch.manual_seed(0)
    objective = build_objective(RunConfig(objective="byol", num_local_crops=0, head_bn=True, predictor=True))
    spread = F.normalize(torch.randn(400, 256), dim=-1)
    same = F.normalize(torch.ones(400, 256) + 1e-4 * torch.randn(400, 256), dim=-1)
    assert objective(spread, spread, 0, with_stats=True)[1]["output_std"].item() == pytest.approx(1.0, abs=0.01)
    assert objective(same, same, 0, with_stats=True)[1]["output_std"].item() == pytest.approx(1e-4, rel=0.05)
    assert objective(same, same, 0)[1] == {}
    assert objective.hyperparameters(3) == {}
    assert objective.state_dict() == {}
