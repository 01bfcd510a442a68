"""LARS against its equations, tensor by tensor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dino.training.lars import LARS


def reference(
    weight: list[float], gradients: list[list[float]], *, lr: float, decay: float, is_vector: bool
) -> list[float]:
    """Steps on one tensor, in Python's floats (paper.md, A.6)."""
    weight, velocity = list(weight), [0.0] * len(weight)
    for gradient in gradients:
        update = list(gradient)
        if not is_vector:
            update = [g + decay * w for g, w in zip(update, weight, strict=True)]
            size, length = math.hypot(*weight), math.hypot(*update)
            ratio = 0.001 * size / length if size > 0 and length > 0 else 1.0
            update = [g * ratio for g in update]
        velocity = [0.9 * v + g for v, g in zip(velocity, update, strict=True)]
        weight = [w - lr * v for w, v in zip(weight, velocity, strict=True)]
    return weight


@pytest.mark.parametrize("is_vector", [False, True])
@pytest.mark.parametrize("start", [[3.0, -4.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0]])
def test_three_steps_follow_the_equations(is_vector: bool, start: list[float]) -> None:
    gradients = [[0.1, 0.2, -0.3, 0.4], [1.0, 0.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]]
    shape = (4,) if is_vector else (2, 2)
    parameter = nn.Parameter(torch.tensor(start, dtype=torch.float64).reshape(shape))
    optimizer = LARS([parameter], lr=0.3, weight_decay=0.1)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64).reshape(shape)
        optimizer.step()
        assert parameter.grad.flatten().tolist() == gradient  # read, not changed
    expected = reference(start, gradients, lr=0.3, decay=0.1, is_vector=is_vector)
    assert parameter.detach().flatten().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_tensor_without_gradient_stays_and_starts_no_state() -> None:
    frozen, moved = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([frozen, moved], lr=1.0, weight_decay=0.5)
    moved.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(2, 2))
    assert frozen not in optimizer.state
    assert not torch.equal(moved, torch.ones(2, 2))


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    def train(parameter: nn.Parameter, optimizer: LARS, seeds: range) -> None:
        for seed in seeds:
            parameter.grad = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    whole = nn.Parameter(torch.eye(3))
    train(whole, LARS([whole], lr=0.1, weight_decay=0.01), range(6))
    first = nn.Parameter(torch.eye(3))
    before = LARS([first], lr=0.1, weight_decay=0.01)
    train(first, before, range(3))
    second = nn.Parameter(first.detach().clone())
    after = LARS([second], lr=0.1, weight_decay=0.01)
    after.load_state_dict(before.state_dict())
    train(second, after, range(3, 6))
    assert torch.equal(second, whole)
