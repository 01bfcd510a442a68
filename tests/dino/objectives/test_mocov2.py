from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dino.objectives.factory import build_objective
from dino.objectives.mocov2 import MocoObjective
from dino.running.distributed import find_world, start_process_group, stop_process_group
from tests.dino.objectives import reference
from tests.dino.running.processes import can_fork, run_ranks
from tests.dino.training.tiny import CPU, tiny_config


def units(rows: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 4),
    local_views=st.integers(0, 4),
    dim=st.integers(2, 20),
    queue=st.integers(1, 30),
    temperature=st.floats(0.05, 1.0),
    seed=st.integers(0, 1000),
)
def test_the_loss_is_info_nce_over_all_pairs_and_the_queue(
    batch: int, local_views: int, dim: int, queue: int, temperature: float, seed: int
) -> None:
    views = 2 + local_views
    torch.manual_seed(seed)
    objective = MocoObjective(num_views=views, dim=dim, queue_size=queue, temperature=temperature)
    for step in range(3):  # with the queue of the steps before
        student, teacher = units(views * batch, dim, seed + step), units(2 * batch, dim, seed - step - 1)
        negatives = objective.queue.double().numpy()
        loss, _ = objective(student, teacher, 0)
        expected = reference.info_nce(student.double().numpy(), teacher.double().numpy(), negatives, views, temperature)
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        objective.step()


def test_golden_values() -> None:
    objective = MocoObjective(num_views=2, dim=2, queue_size=1, temperature=0.5)
    objective.queue.copy_(torch.tensor([[0.0, 1.0]]))
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    teacher = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    # (t1, s0): positive 1 / 0.5, negative 0; (t0, s1): positive 1 / 0.5, negative 0.8 / 0.5.
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1.6 - 2))) / 2
    assert objective(student, teacher, 0)[0].item() == pytest.approx(expected)
    # Where all vectors are one, every negative looks like the positive: ln(1 + queue).
    flat = MocoObjective(num_views=3, dim=2, queue_size=99)
    flat.queue.copy_(torch.tensor([[0.0, 1.0]]).expand(99, 2))
    same = torch.tensor([[0.0, 1.0]])
    assert flat(same.expand(6, 2), same.expand(4, 2), 0)[0].item() == pytest.approx(math.log(100), rel=1e-5)


def test_the_gradient_is_that_of_differences() -> None:
    torch.manual_seed(0)
    objective = MocoObjective(num_views=3, dim=5, queue_size=7)
    student, teacher = units(6, 5, 1).requires_grad_(), units(4, 5, 2)
    objective(student, teacher, 0)[0].backward()
    keys, queue = teacher.double().numpy(), objective.queue.double().numpy()
    expected = reference.gradient(
        lambda at: reference.info_nce(at, keys, queue, 3, 0.1), student.detach().double().numpy()
    )
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 25), batches=st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_the_queue_is_first_in_first_out_at_any_length(size: int, batches: list[int]) -> None:
    objective = MocoObjective(num_views=2, dim=3, queue_size=size)
    expected = [row.tolist() for row in objective.queue]
    for number, batch in enumerate(batches):
        keys = units(2 * batch, 3, number)
        objective(units(2 * batch, 3, 99), keys, 0)
        objective.step()
        expected = (expected + [row.tolist() for row in keys])[-size:]
    oldest = int(objective.oldest)
    assert torch.cat([objective.queue[oldest:], objective.queue[:oldest]]).tolist() == expected


def test_a_queue_starts_full_of_unit_vectors_alike_for_equal_seeds() -> None:
    config = tiny_config(objective="mocov2", queue_size=50)
    torch.manual_seed(4)
    first = build_objective(config)
    torch.manual_seed(4)
    second = build_objective(config)
    assert torch.equal(first.queue, second.queue)
    assert first.queue.shape == (50, config.head_bottleneck_dim)
    torch.testing.assert_close(first.queue.norm(dim=-1), torch.ones(50))


def test_micro_batches_of_a_step_join_the_queue_once_and_in_the_order_of_the_batch() -> None:
    whole, parts = (MocoObjective(num_views=2, dim=3, queue_size=20) for _ in range(2))
    parts.load_state_dict(whole.state_dict())
    keys = units(8, 3, 0).unflatten(0, (2, 4))  # two views of four images
    whole(units(8, 3, 1), keys.flatten(0, 1), 0)
    before = parts.queue.clone()
    for half in keys.chunk(2, dim=1):
        parts(units(4, 3, 1), half.flatten(0, 1), 0)
        assert torch.equal(parts.queue, before)
    for objective in (whole, parts):
        objective.step()
    assert torch.equal(whole.queue, parts.queue)
    assert int(parts.oldest) == 8


def test_queue_and_place_are_in_the_state_and_nothing_else() -> None:
    objective = MocoObjective(num_views=2, dim=3, queue_size=20)
    assert set(objective.state_dict()) == {"queue", "oldest"}
    with pytest.raises(RuntimeError, match="without a forward"):
        objective.step()


@can_fork
def test_keys_of_all_ranks_join_every_ranks_queue_as_one_process_would_have_it(tmp_path: Path) -> None:
    keys = units(16, 3, 0).unflatten(0, (2, 8))
    torch.manual_seed(0)
    start = MocoObjective(num_views=2, dim=3, queue_size=21).state_dict()

    def objective_after(share: Tensor) -> MocoObjective:
        objective = MocoObjective(num_views=2, dim=3, queue_size=21)
        objective.load_state_dict(start)
        for _ in range(2):
            objective(units(share[0].numel() // 3 * 2, 3, 1), share.flatten(0, 1), 0)
            objective.step()
        return objective

    def body(rank: int) -> None:
        start_process_group(find_world(), CPU)
        torch.save(objective_after(keys[:, 4 * rank : 4 * rank + 4]).state_dict(), tmp_path / f"{rank}.pt")
        stop_process_group()

    run_ranks(body, tmp_path)
    expected = objective_after(keys).state_dict()
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(state["queue"], expected["queue"])
        assert torch.equal(state["oldest"], expected["oldest"])
