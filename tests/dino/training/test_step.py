from __future__ import annotations

import math

import pytest
import torch

from dino.running.precision import autocast, build_scaler
from dino.training.step import TrainStep
from tests.dino.training.tiny import (
    CPU,
    STEPS_PER_EPOCH,
    TinyLoader,
    equal_bits,
    run_steps,
    tiny_config,
    tiny_step,
    weights,
)


def start_scale_at(step: TrainStep, scale: float) -> None:
    """Tiny random networks have huge gradients: the usual first scale of 65536 would skip the first steps."""
    if step.scaler.is_enabled():
        step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": scale})


def test_equal_seeds_give_equal_bits() -> None:
    first, second = (tiny_step(tiny_config()) for _ in range(2))
    for step in (first, second):
        torch.manual_seed(5)
        run_steps(step, 5)
    assert equal_bits(weights(first.student), weights(second.student))
    assert equal_bits(weights(first.teacher), weights(second.teacher))


def test_asking_for_statistics_changes_no_bit() -> None:
    first, second = (tiny_step(tiny_config()) for _ in range(2))
    torch.manual_seed(5)
    plain = run_steps(first, 3)
    torch.manual_seed(5)
    watched = run_steps(second, 3, stats=True)
    assert [loss for loss, _ in plain] == [loss for loss, _ in watched]
    assert equal_bits(weights(first.student), weights(second.student))
    assert plain[0][1] == {}
    assert set(watched[0][1]) == {"teacher_entropy", "kl", "output_std", "grad_norm"}
    assert watched[0][1]["teacher_entropy"] + watched[0][1]["kl"] == pytest.approx(watched[0][0], rel=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_micro_batches_equal_the_big_batch(parts: int) -> None:
    whole = tiny_step(tiny_config(drop_path_rate=0.0))
    split = tiny_step(tiny_config(drop_path_rate=0.0, accumulate_steps=parts))
    losses = [[loss for loss, _ in run_steps(step, 5)] for step in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(whole.objective.center, split.objective.center, rtol=1e-4, atol=1e-6)
    for name, value in weights(whole.teacher).items():
        torch.testing.assert_close(value, weights(split.teacher)[name], rtol=1e-3, atol=2e-4, msg=name)


def test_the_first_step_has_learning_rate_zero_and_moves_nothing() -> None:
    step = tiny_step(tiny_config())
    before = weights(step.student)
    run_steps(step, 1)
    assert equal_bits(before, weights(step.student))
    run_steps(step, 1, first=1)
    assert not equal_bits(before, weights(step.student))


def test_each_step_takes_its_own_hyperparameters() -> None:
    step = tiny_step(tiny_config())
    run_steps(step, 7)
    decayed, plain = step.optimizer.param_groups
    assert decayed["lr"] == plain["lr"] == step.schedules.lr[6]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (step.schedules.weight_decay[6], 0.0)


def test_no_gradients_stay_after_a_step_and_the_teacher_gets_none() -> None:
    step = tiny_step(tiny_config())
    run_steps(step, 2)
    assert all(parameter.grad is None for parameter in step.student.parameters())
    assert not any(parameter.requires_grad for parameter in step.teacher.parameters())


def test_equal_crop_sizes_in_one_group_give_the_teacher_the_globals() -> None:
    # Globals and locals of one size are adjacent equal-size views: one group of all views.
    config = tiny_config(local_crop_size=8, drop_path_rate=0.0)
    two, one = tiny_step(config), tiny_step(config)
    groups = next(TinyLoader(config).iterate(1, 0))
    assert len(groups) == 2
    losses = [float(two(5, iter([groups]))[0]), float(one(5, iter([[torch.cat(groups)]]))[0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_no_locals_is_the_symmetric_two_view_loss() -> None:
    step = tiny_step(tiny_config(num_local_crops=0, drop_path_rate=0.0))
    (views,) = next(TinyLoader(step.config).iterate(0, 0))
    with torch.no_grad():
        student, teacher = step.student([views]).chunk(2), step.teacher([views]).chunk(2)
    loss = run_steps(step, 1)[0][0]
    terms = [
        -(torch.softmax(teacher[q] / 0.04, -1) * torch.log_softmax(student[1 - q] / 0.1, -1)).sum(-1).mean()
        for q in (0, 1)
    ]
    assert loss == pytest.approx(float(sum(terms)) / 2, rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_float32_closely(precision: str) -> None:
    exact = tiny_step(tiny_config(drop_path_rate=0.0))
    half = tiny_step(tiny_config(drop_path_rate=0.0, precision=precision))
    start_scale_at(half, 4.0)
    for (a, _), (b, _) in zip(run_steps(exact, 4), run_steps(half, 4), strict=True):
        assert a == pytest.approx(b, rel=0.05)
    assert all(value.dtype == torch.float32 for value in weights(half.student).values())
    assert not equal_bits(weights(exact.student), weights(half.student))


def test_fp16_skips_a_step_whose_gradients_overflow_and_lowers_the_scale() -> None:
    step = tiny_step(tiny_config(precision="fp16", freeze_last_layer_epochs=0))
    start_scale_at(step, 4.0)
    run_steps(step, 3)
    step.scaler.update(1e38)  # any gradient overflows fp16
    before, scale = weights(step.student), step.scaler.get_scale()
    loss = run_steps(step, 1, first=3)[0][0]
    assert math.isfinite(loss)
    assert equal_bits(before, weights(step.student))
    assert step.scaler.get_scale() == scale / 2


def test_fp16_clips_the_unscaled_gradients() -> None:
    # With the scale in them every gradient would be clipped to the limit; unscaled, they are far below it.
    config = tiny_config(drop_path_rate=0.0, clip_grad=1e4, freeze_last_layer_epochs=0)
    exact, half = tiny_step(config), tiny_step(config.model_copy(update={"precision": "fp16"}))
    start_scale_at(half, 8.0)
    norms = [run_steps(step, 1, stats=True)[0][1]["grad_norm"] for step in (exact, half)]
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_scaler_passes_through_outside_fp16() -> None:
    assert not build_scaler("fp32", CPU).is_enabled()
    assert not build_scaler("bf16", CPU).is_enabled()
    assert build_scaler("fp16", CPU).is_enabled()
    with autocast("bf16", CPU):
        assert torch.is_autocast_enabled("cpu")
    with autocast("fp32", CPU):
        assert not torch.is_autocast_enabled("cpu")


def test_steps_of_an_epoch_boundary_use_the_new_epochs_temperature() -> None:
    step = tiny_step(tiny_config())
    assert step.schedules.epoch_of(STEPS_PER_EPOCH - 1) == 0
    assert step.schedules.epoch_of(STEPS_PER_EPOCH) == 1
    assert step.objective.teacher_temp(0) == pytest.approx(0.04)
    assert step.objective.teacher_temp(1) == pytest.approx(0.07)
