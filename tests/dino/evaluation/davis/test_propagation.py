"""Label propagation against its definition, written down with the full affinity of all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dino.evaluation.davis.propagation import PropagationSettings, Propagator


def reference(features: list[Tensor], labels: list[Tensor], target: Tensor, settings: PropagationSettings) -> Tensor:
    """paper.md, C.7, steps 2 to 4, for one target frame: features (h, w, D), labels (h, w, C)."""
    height, width = target.shape[:2]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    radius = settings.radius or max(height, width)
    near = ((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)
    cosines = [target.flatten(0, 1) @ frame.flatten(0, 1).T for frame in features]
    affinity = torch.cat([torch.exp(cosine / settings.temperature) * near for cosine in cosines], dim=1)
    least = affinity.topk(min(settings.topk, affinity.shape[1]), dim=1).values[:, -1:]
    affinity = affinity * (affinity >= least)
    affinity = affinity / affinity.sum(1, keepdim=True)
    return (affinity @ torch.cat([frame.flatten(0, 1) for frame in labels])).view(height, width, -1)


def draw_video(height: int, width: int, frames: int, channels: int, seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(height, width, 8, generator=generator)
    noise = torch.randn(frames, height, width, 8, generator=generator)
    numbers = torch.randint(channels, (height, width), generator=generator)
    return [F.normalize(base + 0.7 * each, dim=-1) for each in noise], F.one_hot(numbers, channels).float()


@pytest.mark.parametrize(
    ("height", "width", "settings"),
    [
        (17, 26, PropagationSettings()),
        (9, 30, PropagationSettings(radius=2, context=3)),
        (30, 9, PropagationSettings(radius=5, topk=1, temperature=0.02)),
        (10, 11, PropagationSettings(radius=0, context=1, topk=12)),
        (8, 8, PropagationSettings(context=0)),
        (1, 3, PropagationSettings(radius=1, topk=5)),  # fewer neighbours than k
    ],
)
def test_equals_the_definition_through_a_video(height: int, width: int, settings: PropagationSettings) -> None:
    features, first = draw_video(height, width, 11, 3, seed=height)
    propagator = Propagator(features[0], first, settings)
    labels = [first]
    for index in range(1, len(features)):
        context = [0, *range(max(1, index - settings.context), index)]
        expected = reference([features[i] for i in context], [labels[i] for i in context], features[index], settings)
        soft = propagator.step(features[index])
        torch.testing.assert_close(soft, expected, atol=2e-6, rtol=0)
        labels.append(soft)


def test_entries_equal_to_the_kth_largest_are_all_kept() -> None:
    # Four equal context patches; two would do, but there is no telling which.
    features = F.normalize(torch.ones(1, 4, 3), dim=-1)
    first = torch.eye(4)[None]
    soft = Propagator(features, first, PropagationSettings(topk=2)).step(features)
    torch.testing.assert_close(soft, torch.full((1, 4, 4), 0.25))


def test_a_frozen_video_keeps_ties_over_context_frames() -> None:
    features, first = draw_video(12, 20, 1, 2, seed=3)
    settings = PropagationSettings(topk=3)
    propagator = Propagator(features[0], first, settings)
    kept = [first]
    for _ in range(6):
        expected = reference([features[0]] * len(kept), kept, features[0], settings)
        kept.append(propagator.step(features[0]))
        torch.testing.assert_close(kept[-1], expected, atol=2e-6, rtol=0)


def test_nothing_is_taken_from_outside_the_window() -> None:
    # The only patch that looks like the target's far corner is 20 columns away.
    features = torch.zeros(3, 30, 2)
    features[..., 0] = 1
    target = features.clone()
    features[0, 0] = target[2, 29] = torch.tensor([0.0, 1.0])
    first = torch.zeros(3, 30, 2)
    first[..., 0] = 1
    first[0, 0] = torch.tensor([0.0, 1.0])
    soft = Propagator(features, first, PropagationSettings(radius=12)).step(target)
    assert soft[2, 29].tolist() == [1.0, 0.0]
    whole = Propagator(features, first, PropagationSettings(radius=0, topk=1)).step(target)
    assert whole[2, 29].tolist() == [0.0, 1.0]


def test_a_low_temperature_does_not_underflow() -> None:
    features, first = draw_video(6, 6, 2, 3, seed=5)
    soft = Propagator(features[0], first, PropagationSettings(temperature=1e-4)).step(features[1])
    assert torch.isfinite(soft).all()
    torch.testing.assert_close(soft.sum(-1), torch.ones(6, 6))
