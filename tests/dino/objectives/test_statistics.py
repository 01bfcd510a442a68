from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dino.objectives.statistics import of_distributions, spread


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(2, 50), dim=st.integers(2, 40), seed=st.integers(0, 1000))
def test_spread_is_the_root_of_one_minus_the_squared_mean(rows: int, dim: int, seed: int) -> None:
    outputs = F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)
    ours = spread(outputs)["output_std"].item()
    assert ours == pytest.approx(math.sqrt(1 - float(outputs.double().mean(0).square().sum())), abs=1e-4)
    deviations = outputs.double().var(0, correction=0)
    assert ours == pytest.approx(math.sqrt(deviations.mean().item() * dim), rel=1e-4)  # std of a dimension x sqrt(D)


def test_spread_of_equal_and_of_opposite_vectors() -> None:
    one = F.normalize(torch.randn(1, 8), dim=-1)
    assert spread(one.expand(5, 8))["output_std"].item() == pytest.approx(0.0, abs=1e-6)
    assert spread(torch.cat([one, -one]))["output_std"].item() == pytest.approx(1.0)


def test_distributions_alike_for_all_images_have_no_spread_however_sharp_and_different_ones_do() -> None:
    one = torch.softmax(3 * torch.randn(1, 8), dim=-1)
    zero = torch.zeros(())
    assert of_distributions(one.expand(5, 8), zero)["output_std"].item() == pytest.approx(0.0, abs=1e-6)
    assert of_distributions(torch.full((5, 8), 0.125), zero)["output_std"].item() == pytest.approx(0.0, abs=1e-6)
    assert of_distributions(torch.eye(8), zero)["output_std"].item() == pytest.approx(math.sqrt(1 - 1 / 8))


def test_entropy_and_kl_split_the_cross_entropy() -> None:
    targets = torch.softmax(torch.randn(6, 10), dim=-1)
    stats = of_distributions(targets, torch.tensor(3.0))
    assert stats["teacher_entropy"].item() == pytest.approx(float(-(targets * targets.log()).sum(-1).mean()), rel=1e-5)
    assert stats["teacher_entropy"].item() + stats["kl"].item() == pytest.approx(3.0, rel=1e-6)
