from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dino.objectives.sinkhorn import sinkhorn
from dino.running.distributed import find_world, start_process_group, stop_process_group
from tests.dino.objectives import reference
from tests.dino.running.processes import can_fork, run_ranks
from tests.dino.training.tiny import CPU

problems = st.builds(
    lambda rows, columns, scale, seed: (
        scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    ),
    rows=st.integers(1, 12),
    columns=st.integers(1, 30),
    scale=st.floats(0.0, 1.0),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=40, deadline=None)
@given(logits=problems, temperature=st.floats(0.05, 1.0), iterations=st.integers(1, 5))
def test_it_is_the_papers_pseudocode(logits: Tensor, temperature: float, iterations: int) -> None:
    expected = reference.sinkhorn(logits.double().numpy(), temperature, iterations)
    np.testing.assert_allclose(sinkhorn(logits, temperature, iterations).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_golden_values() -> None:
    # Worked by hand: exp(x) = [[1, 2], [3, 2]]; columns give [[1/4, 1/2], [3/4, 1/2]], rows [[1/3, 2/3], [3/5, 2/5]];
    # once more: columns [[5/14, 5/8], [9/14, 3/8]], rows [[4/11, 7/11], [12/19, 7/19]].
    logits = torch.tensor([[1.0, 2.0], [3.0, 2.0]]).log()
    torch.testing.assert_close(sinkhorn(logits, 1.0, 1), torch.tensor([[1 / 3, 2 / 3], [3 / 5, 2 / 5]]))
    torch.testing.assert_close(sinkhorn(logits, 1.0, 2), torch.tensor([[4 / 11, 7 / 11], [12 / 19, 7 / 19]]))


@settings(max_examples=40, deadline=None)
@given(logits=problems, temperature=st.floats(0.03, 1.0))
def test_one_iteration_is_a_softmax_over_the_batch_with_rows_normalised(logits: Tensor, temperature: float) -> None:
    over_batch = torch.softmax(logits.double() / temperature, dim=0)
    expected = over_batch / over_batch.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(logits, temperature, 1), expected.float(), rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(logits=problems, factor=st.sampled_from([1.0, 100.0, 1e4]), iterations=st.integers(1, 4))
def test_rows_are_distributions_however_large_the_logits(logits: Tensor, factor: float, iterations: int) -> None:
    targets = sinkhorn(factor * logits, 0.05, iterations)
    assert bool((targets >= 0).all())
    torch.testing.assert_close(targets.sum(1), torch.ones(len(logits)))


def test_a_prototype_that_no_image_is_near_and_an_image_near_none_do_no_harm() -> None:
    logits = torch.zeros(4, 5)
    logits[:, 2] -= 500.0  # exp of this over tau is 0 in float32
    logits[1] -= 900.0
    targets = sinkhorn(logits, 0.05, 3)
    assert bool(torch.isfinite(targets).all())
    torch.testing.assert_close(targets, torch.full((4, 5), 0.2), rtol=1e-3, atol=0)  # rows and columns may be scaled


@settings(max_examples=20, deadline=None)
@given(logits=problems)
def test_many_iterations_spread_the_mass_evenly_over_the_prototypes(logits: Tensor) -> None:
    targets = sinkhorn(logits, 0.5, 300)
    rows, columns = logits.shape
    torch.testing.assert_close(targets.sum(0), torch.full((columns,), rows / columns), rtol=1e-2, atol=1e-3)


def test_leading_axes_are_problems_of_their_own() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7)
    torch.testing.assert_close(sinkhorn(logits, 0.3, 3), torch.stack([sinkhorn(part, 0.3, 3) for part in logits]))


def test_half_precision_logits_are_worked_on_in_float32() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 7).half()
    targets = sinkhorn(logits, 0.05, 3)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets, sinkhorn(logits.float(), 0.05, 3))


@can_fork
@pytest.mark.parametrize("iterations", [1, 3])
def test_ranks_balance_over_the_whole_batch(tmp_path: Path, iterations: int) -> None:
    torch.manual_seed(0)
    logits = 10 * torch.randn(2, 8, 11)  # two globals, eight images

    def body(rank: int) -> None:
        start_process_group(find_world(), CPU)
        torch.save(sinkhorn(logits[:, 4 * rank : 4 * rank + 4], 0.05, iterations), tmp_path / f"{rank}.pt")
        stop_process_group()

    run_ranks(body, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), sinkhorn(logits, 0.05, iterations))
