from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dino.config import RunConfig
from dino.objectives.dino import DinoObjective, teacher_temperatures
from dino.objectives.factory import build_objective

GOLDEN = Path(__file__).parents[2] / "golden"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_training", GOLDEN / "make_training.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_loss(student: Tensor, teacher: Tensor, center: Tensor, views: int, tau_s: float, tau_t: float) -> Tensor:
    """paper.md, A.4 word for word: a double loop over pairs."""
    targets = torch.softmax((teacher - center) / tau_t, dim=-1).chunk(2)
    logs = torch.log_softmax(student / tau_s, dim=-1).chunk(views)
    terms = [-(targets[q] * logs[v]).sum(-1).mean() for q in range(2) for v in range(views) if v != q]
    return torch.stack(terms).sum() / (2 * views - 2)


@pytest.mark.parametrize("index", range(3))
def test_loss_gradient_and_centre_are_those_of_the_authors_over_several_steps(index: int) -> None:
    make = load_generator()
    case = json.loads((GOLDEN / "training.json").read_text())["losses"][index]
    objective = DinoObjective(
        out_dim=case["k"],
        num_views=case["views"],
        teacher_temp=case["end"],
        warmup_teacher_temp=case["start"],
        warmup_teacher_temp_epochs=case["warmup"],
    )
    for step, expected in enumerate(case["steps"]):
        student, teacher = make.draw_logits(case, step)
        student.requires_grad_()
        loss, _ = objective(student, teacher, step)
        loss.backward()
        objective.step()
        assert student.grad is not None
        assert loss.item() == pytest.approx(expected["loss"], rel=2e-6)
        assert student.grad.norm().item() == pytest.approx(expected["gradient_norm"], rel=1e-5)
        assert student.grad[:: case["batch"], 1].tolist() == pytest.approx(
            expected["gradient_sample"], rel=1e-5, abs=1e-7
        )
        assert objective.center.norm().item() == pytest.approx(expected["centre_norm"], rel=1e-5)
        assert objective.center[0, :4].tolist() == pytest.approx(expected["centre_sample"], rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 4),
    local_views=st.integers(0, 4),
    out_dim=st.integers(2, 40),
    scale=st.floats(0.0, 20.0),
    tau_t=st.floats(0.02, 1.0),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradient_equal_the_double_loop(
    batch: int, local_views: int, out_dim: int, scale: float, tau_t: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = 2 + local_views
    student = (scale * torch.randn(views * batch, out_dim, generator=generator)).double().float().requires_grad_()
    teacher = scale * torch.randn(2 * batch, out_dim, generator=generator)
    objective = DinoObjective(out_dim=out_dim, num_views=views, teacher_temp=tau_t, warmup_teacher_temp=None)
    objective.center.copy_(torch.randn(1, out_dim, generator=generator))
    loss, _ = objective(student, teacher, 0)
    (ours,) = torch.autograd.grad(loss, student)
    exact = student.detach().double().requires_grad_()
    expected = plain_loss(exact, teacher.double(), objective.center.double(), views, 0.1, tau_t)
    (theirs,) = torch.autograd.grad(expected, exact)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)


def test_temperature_zero_means_the_argmax_of_the_centred_output() -> None:
    torch.manual_seed(0)
    objective = DinoObjective(out_dim=3, num_views=2, teacher_temp=0.0, warmup_teacher_temp=None)
    objective.center.copy_(torch.tensor([[5.0, 0.0, 0.0]]))
    teacher = torch.tensor([[5.1, 1.0, 0.0], [9.0, 0.0, 3.0]])
    assert objective.targets(teacher, 0).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    student = torch.randn(2, 3)
    loss, stats = objective(student, teacher, 0, with_stats=True)
    log = torch.log_softmax(student / 0.1, -1)
    assert loss.item() == pytest.approx(-(log[1, 1] + log[0, 0]).item() / 2, rel=1e-5, abs=1e-5)
    assert stats["teacher_entropy"].item() == 0.0


def test_statistics_are_entropy_and_kl_and_add_up_to_the_loss() -> None:
    torch.manual_seed(0)
    objective = DinoObjective(out_dim=50, num_views=4, teacher_temp=0.5, warmup_teacher_temp=None)
    student, teacher = torch.randn(12, 50), torch.randn(6, 50)
    loss, stats = objective(student, teacher, 0, with_stats=True)
    p = torch.softmax(teacher / 0.5, -1)
    entropy = -(p * p.log()).sum(-1).mean()
    logs = torch.log_softmax(student / 0.1, -1).chunk(4)
    pairs = [(q, v) for q in range(2) for v in range(4) if v != q]
    kl = torch.stack([(p.chunk(2)[q] * (p.chunk(2)[q].log() - logs[v])).sum(-1).mean() for q, v in pairs]).mean()
    assert stats["teacher_entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert stats["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert loss.item() == pytest.approx((entropy + kl).item(), rel=1e-5)
    assert objective(student, teacher, 0)[1] == {}


@pytest.mark.parametrize("out_dim", [4096, 60000, 65536])
def test_loss_at_uniform_collapse_is_ln_k(out_dim: int) -> None:
    objective = DinoObjective(out_dim=out_dim, num_views=3)
    loss, stats = objective(torch.zeros(3, out_dim), torch.full((2, out_dim), 0.7), 0, with_stats=True)
    assert loss.item() == pytest.approx({4096: 8.3178, 60000: 11.0021, 65536: 11.0904}[out_dim], abs=1e-4)
    assert stats["kl"].item() == pytest.approx(0.0, abs=1e-4)


def test_first_loss_of_random_networks_is_as_computed_in_g2() -> None:
    # paper.md, G.2: about ln K + 0.195 - 0.98 rho, rho the cosine between student and teacher bottleneck vectors.
    torch.manual_seed(0)
    prototypes = torch.nn.functional.normalize(torch.randn(65536, 256), dim=-1)
    vectors = torch.nn.functional.normalize(torch.randn(3, 256), dim=-1)
    objective = DinoObjective(out_dim=65536, num_views=2, teacher_temp=0.04, warmup_teacher_temp=None)

    def first_loss(student: Tensor, teacher: Tensor) -> float:
        return float(objective(student @ prototypes.T, teacher @ prototypes.T, 0)[0])

    teacher = vectors[[0, 0]]
    assert first_loss(vectors[[0, 0]], teacher) == pytest.approx(math.log(65536) + 0.195 - 0.98, abs=0.05)
    rho = float(vectors[0] @ vectors[1])
    assert first_loss(vectors[[1, 1]], teacher) == pytest.approx(math.log(65536) + 0.195 - 0.98 * rho, abs=0.05)


def test_centre_after_one_step_is_a_tenth_of_the_raw_batch_mean_and_is_not_used_before() -> None:
    torch.manual_seed(0)
    objective = DinoObjective(out_dim=8, num_views=2)
    teacher = torch.randn(6, 8)
    objective(torch.randn(6, 8), teacher, 0)
    assert objective.center.abs().max() == 0
    objective.step()
    torch.testing.assert_close(objective.center, 0.1 * teacher.mean(0, keepdim=True))


def test_micro_batches_of_a_step_move_the_centre_once() -> None:
    torch.manual_seed(0)
    parts, whole = (DinoObjective(out_dim=8, num_views=2) for _ in range(2))
    teacher = torch.randn(12, 8)
    for chunk in teacher.chunk(3):
        parts(torch.randn(4, 8), chunk, 0)
        assert parts.center.abs().max() == 0
    parts.step()
    whole(torch.randn(12, 8), teacher, 0)
    whole.step()
    torch.testing.assert_close(parts.center, whole.center)


def test_stepping_without_a_forward_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError, match="without a forward"):
        DinoObjective(out_dim=4, num_views=2).step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_get_a_float32_loss_and_their_own_gradient_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    objective = DinoObjective(out_dim=64, num_views=3, warmup_teacher_temp=None)
    student = torch.randn(6, 64).to(dtype).requires_grad_()
    teacher = torch.randn(4, 64).to(dtype)
    loss, _ = objective(student, teacher, 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.dtype == dtype
    expected = plain_loss(student.detach().float(), teacher.float(), torch.zeros(1, 64), 3, 0.1, 0.07)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_backward_scales_with_what_comes_from_above() -> None:
    torch.manual_seed(0)
    objective = DinoObjective(out_dim=16, num_views=3)
    student, teacher = torch.randn(6, 16, requires_grad=True), torch.randn(4, 16)
    (one,) = torch.autograd.grad(objective(student, teacher, 0)[0], student)
    (many,) = torch.autograd.grad(objective(student, teacher, 0)[0] * 1024, student)
    torch.testing.assert_close(many, one * 1024)


def test_teacher_temperature_schedule_has_the_paper_values() -> None:
    config = RunConfig()
    objective = build_objective(config)
    assert [round(objective.teacher_temp(epoch), 5) for epoch in (0, 1, 29, 30, 99)] == [
        0.04,
        0.04103,
        0.07,
        0.07,
        0.07,
    ]


@pytest.mark.parametrize(
    ("start", "epochs", "expected"),
    [
        (None, 30, [0.07]),
        (0.04, 0, [0.07]),
        (0.04, 0.3, [0.04, 0.07]),
        (0.04, 2.6, [0.04, 0.055, 0.07, 0.07]),
    ],
)
def test_teacher_temperature_warm_up_of_unusual_length(
    start: float | None, epochs: float, expected: list[float]
) -> None:
    assert teacher_temperatures(0.07, start, epochs) == pytest.approx(expected)
