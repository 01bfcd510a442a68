"""DINO with another loss, another operation on the teacher's output, or none (Tables 7, 14, 15, Fig. 7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dino.objectives.dino import DinoObjective
from dino.objectives.factory import build_objective
from tests.dino.objectives import reference
from tests.dino.training.tiny import tiny_config


def logits(views: int, batch: int, out_dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.rand(views * batch, out_dim, generator=generator) * 2 - 1
    return student, torch.rand(2 * batch, out_dim, generator=generator) * 2 - 1


@settings(max_examples=25, deadline=None)
@given(
    centering=st.sampled_from(["sinkhorn", "softmax_batch"]),
    batch=st.integers(1, 5),
    local_views=st.integers(0, 4),
    out_dim=st.integers(2, 30),
    seed=st.integers(0, 1000),
)
def test_balanced_targets_are_those_of_both_globals_together(
    centering: str, batch: int, local_views: int, out_dim: int, seed: int
) -> None:
    views = 2 + local_views
    student, teacher = logits(views, batch, out_dim, seed)
    objective = DinoObjective(out_dim=out_dim, num_views=views, centering=centering)
    loss, _ = objective(student, teacher, 0)
    iterations = {"sinkhorn": 3, "softmax_batch": 1}[centering]
    targets = reference.sinkhorn(teacher.double().numpy(), 0.05, iterations)
    assert loss.item() == pytest.approx(
        reference.cross_entropy(student.double().numpy(), targets, views, 0.1), rel=1e-4
    )
    torch.testing.assert_close(objective.targets(teacher, 0).sum(1), torch.ones(2 * batch))


@pytest.mark.parametrize("centering", ["sinkhorn", "softmax_batch", "none"])
def test_without_centring_the_centre_stays_zero(centering: str) -> None:
    objective = DinoObjective(out_dim=8, num_views=2, centering=centering)
    for step in range(3):
        objective(*logits(2, 4, 8, step), step)
        objective.step()
    assert not objective.center.any()


def test_no_centring_sharpens_the_raw_output() -> None:
    objective = DinoObjective(out_dim=8, num_views=2, centering="none", teacher_temp=0.05, warmup_teacher_temp=None)
    _, teacher = logits(2, 4, 8, 0)
    torch.testing.assert_close(objective.targets(teacher, 0), torch.softmax(teacher / 0.05, dim=-1))


@settings(max_examples=25, deadline=None)
@given(
    centering=st.sampled_from(["center", "none"]),
    batch=st.integers(1, 4),
    local_views=st.integers(0, 4),
    out_dim=st.integers(2, 30),
    seed=st.integers(0, 1000),
)
def test_squared_error_is_of_unit_vectors_of_the_centred_output(
    centering: str, batch: int, local_views: int, out_dim: int, seed: int
) -> None:
    views = 2 + local_views
    objective = DinoObjective(out_dim=out_dim, num_views=views, loss="mse", centering=centering, center_momentum=0.6)
    center = np.zeros(out_dim)
    for step in range(3):
        student, teacher = logits(views, batch, out_dim, seed + step)
        loss, stats = objective(student, teacher, step, with_stats=True)
        exact = teacher.double().numpy()
        expected = reference.squared_error(student.double().numpy(), exact - center, views)
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert set(stats) == {"output_std"}
        objective.step()
        if centering == "center":
            center = 0.6 * center + 0.4 * exact.mean(0)
    np.testing.assert_allclose(objective.center[0].numpy(), center, rtol=1e-4, atol=1e-6)


def test_squared_error_knows_no_temperature() -> None:
    student, teacher = logits(3, 4, 8, 0)
    losses = [
        DinoObjective(out_dim=8, num_views=3, loss="mse", student_temp=t, teacher_temp=t)(student, teacher, 0)[0]
        for t in (0.05, 0.5)
    ]
    assert losses[0] == losses[1]


def test_gradients_of_the_variants_are_those_of_differences() -> None:
    student, teacher = logits(3, 2, 5, 0)
    student.requires_grad_()
    exact = teacher.double().numpy()
    targets = reference.sinkhorn(exact, 0.05, 3)
    expected = {
        ("mse", "center"): lambda at: reference.squared_error(at, exact, 3),
        ("ce", "sinkhorn"): lambda at: reference.cross_entropy(at, targets, 3, 0.1),
    }
    for (loss, centering), function in expected.items():
        objective = DinoObjective(out_dim=5, num_views=3, loss=loss, centering=centering)
        (ours,) = torch.autograd.grad(objective(student, teacher, 0)[0], student)
        theirs = reference.gradient(function, student.detach().double().numpy())
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "temperature"),
    [({}, 0.04), ({"centering": "none"}, 0.04), ({"centering": "sinkhorn"}, None), ({"loss": "mse"}, None)],
)
def test_the_teacher_temperature_is_told_where_there_is_one(changes: dict[str, str], temperature: float | None) -> None:
    told = build_objective(tiny_config(**changes)).hyperparameters(0)
    assert told == ({} if temperature is None else {"teacher_temp": pytest.approx(temperature)})


def test_settings_come_from_the_configuration() -> None:
    objective = build_objective(tiny_config(centering="sinkhorn", sinkhorn_temp=0.03, sinkhorn_iterations=7))
    assert isinstance(objective, DinoObjective)
    assert (objective.sinkhorn_temp, objective.iterations) == (0.03, 7)
    one = build_objective(tiny_config(centering="softmax_batch", sinkhorn_iterations=7))
    assert isinstance(one, DinoObjective)
    assert one.iterations == 1
