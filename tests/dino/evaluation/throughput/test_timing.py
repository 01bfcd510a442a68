"""What is timed and reported; no test looks at how long something took."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dino.errors import UserError
from dino.evaluation.throughput import timing
from dino.evaluation.throughput.timing import Timing, TimingSettings, headline, time_backbone

CPU = torch.device("cpu")


class Clock(nn.Module):
    """Takes a fixed time a forward by a clock of its own, more with every image."""

    def __init__(self, fails_at: int = 10**9, error: Exception | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3, 2, 2))
        self.now, self.batches, self.fails_at, self.error = 0.0, [], fails_at, error

    def forward(self, images: Tensor) -> Tensor:
        if len(images) >= self.fails_at and self.error is not None:
            raise self.error
        self.batches.append((len(images), images.dtype, images.is_contiguous(memory_format=torch.channels_last)))
        self.now += 0.01 + 0.001 * len(images)
        return images


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return make_clock(monkeypatch)


def make_clock(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Clock:
    clock = Clock(**options)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def settings(**changes: Any) -> TimingSettings:
    return TimingSettings(**{"device": CPU, "image_size": 4, "seconds": 1.0, **changes})


def test_images_per_second_at_every_batch_size(clock: Clock) -> None:
    timings, notes = time_backbone(clock, settings(batch_sizes=(32, 1, 8, 1)))
    assert [each.batch for each in timings] == [1, 8, 32]
    for each in timings:
        assert each.images_per_second == pytest.approx(each.batch / (0.01 + 0.001 * each.batch))
        assert each.spread == pytest.approx(0, abs=1e-9)
        assert each.peak_device_memory_mib is None
        assert 0.8 < each.forwards * (0.01 + 0.001 * each.batch) < 1.3  # the second that was asked for
    assert notes == []


def test_a_slow_network_is_timed_three_times_at_least(clock: Clock) -> None:
    (only,), _ = time_backbone(clock, settings(batch_sizes=(4,), seconds=0.001))
    assert only.forwards == 3


def test_the_median_forgives_a_hiccup(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = Clock.forward, []

    def sometimes_slow(self: Clock, images: Tensor) -> Tensor:
        calls.append(1)
        self.now += 5.0 if len(calls) == 40 else 0.0
        return forward(self, images)

    monkeypatch.setattr(Clock, "forward", sometimes_slow)
    (only,), _ = time_backbone(clock, settings(batch_sizes=(10,), seconds=10.0))
    assert only.images_per_second == pytest.approx(10 / 0.02)


def test_precision_and_layout_are_of_the_images_and_the_network(clock: Clock) -> None:
    time_backbone(clock, settings(batch_sizes=(2,), precision="bf16", channels_last=True))
    assert {batch[1:] for batch in clock.batches} == {(torch.bfloat16, True)}
    assert clock.weight.dtype == torch.bfloat16
    assert clock.weight.is_contiguous(memory_format=torch.channels_last)


def test_batches_beyond_the_gpus_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = make_clock(monkeypatch, fails_at=32, error=torch.cuda.OutOfMemoryError("out of memory"))
    timings, notes = time_backbone(clock, settings(batch_sizes=(8, 16, 32, 128)))
    assert [each.batch for each in timings] == [8, 16]
    assert notes == ["batch 32 and larger left out: the GPU's memory is too small"]
    with pytest.raises(UserError, match="not even the smallest"):
        time_backbone(clock, settings(batch_sizes=(64,)))


def test_a_compiler_that_fails_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = make_clock(monkeypatch, fails_at=1, error=RuntimeError("\nno C++ compiler\nmore"))
    monkeypatch.setattr(torch, "compile", lambda network: network)
    with pytest.raises(UserError, match=r"--compile does not work here \(no C\+\+ compiler\): leave it out"):
        time_backbone(clock, settings(batch_sizes=(1,), compile=True))
    with pytest.raises(RuntimeError):
        time_backbone(clock, settings(batch_sizes=(1,)))


def test_the_headline_is_at_128_or_the_largest_batch() -> None:
    timings = [Timing(batch, float(batch), 0.0, 3, None) for batch in (1, 128, 512)]
    assert headline(timings).batch == 128
    assert headline([timings[0], timings[2]]).batch == 512
