from __future__ import annotations

import math

import pytest
import torch

from dino.errors import DivergenceError
from dino.training.watch import CONSTANT_STD, PATIENCE, CollapseWatch, LossHistory, check_finite
from tests.dino.training.tiny import CPU, tiny_config

LN_K = math.log(32)


def observe(watch: CollapseWatch, entropy: float, kl: float, times: int, first: int = 10) -> list[str | None]:
    stats = {"teacher_entropy": entropy, "kl": kl, "grad_norm": 1.0}
    return [watch.observe(first + index, stats) for index in range(times)]


@pytest.mark.parametrize(("entropy", "kind"), [(0.999 * LN_K, "uniform"), (0.001 * LN_K, "one-hot")])
def test_collapse_is_named_once_after_some_points_in_a_row(entropy: float, kind: str) -> None:
    watch = CollapseWatch(tiny_config())
    messages = observe(watch, entropy, 0.0, PATIENCE + 2)
    assert [bool(message) for message in messages] == [False] * (PATIENCE - 1) + [True, False, False]
    assert f"collapse to the {kind} output: the teacher's entropy is {entropy:.4f} (ln K = 3.4657)" in str(messages)
    assert (watch.kind, watch.step) == (kind, 10 + PATIENCE - 1)


def test_a_merely_flat_or_sharp_teacher_is_no_collapse() -> None:
    watch = CollapseWatch(tiny_config())
    assert observe(watch, 0.999 * LN_K, 0.5, 10) == [None] * 10
    assert observe(watch, 0.001 * LN_K, 0.5, 10) == [None] * 10
    assert observe(watch, 0.5 * LN_K, 0.0, 10) == [None] * 10
    assert watch.kind is None


def test_recovery_clears_the_name_and_the_count() -> None:
    watch = CollapseWatch(tiny_config())
    observe(watch, LN_K, 0.0, PATIENCE)
    observe(watch, 0.5 * LN_K, 1.0, 1)
    assert (watch.kind, watch.step) == (None, None)
    assert observe(watch, LN_K, 0.0, PATIENCE - 1) == [None] * (PATIENCE - 1)


def test_one_hot_targets_by_design_are_not_called_collapse() -> None:
    watch = CollapseWatch(tiny_config(teacher_temp=0.0, warmup_teacher_temp=None))
    assert observe(watch, 0.0, 0.0, 5) == [None] * 5


def test_counting_goes_on_after_a_restart() -> None:
    first, second = CollapseWatch(tiny_config()), CollapseWatch(tiny_config())
    observe(first, LN_K, 0.0, PATIENCE - 1)
    second.load_state_dict(first.state_dict())
    observe(second, LN_K, 0.0, 1, first=99)
    assert (second.kind, second.step) == ("uniform", 99)


def test_a_constant_vector_is_collapse_where_there_are_no_distributions() -> None:
    watch = CollapseWatch(tiny_config(objective="byol"))
    healthy, constant = {"output_std": 0.3}, {"output_std": 0.1 * CONSTANT_STD}
    assert [watch.observe(step, constant) for step in range(PATIENCE - 1)] == [None] * (PATIENCE - 1)
    assert watch.observe(5, healthy) is None
    messages = [watch.observe(step, constant) for step in range(PATIENCE)]
    assert messages[-1] == "collapse to a constant output: the spread of the teacher's outputs is 0.00500"
    assert watch.kind == "constant"


def test_statistics_that_say_nothing_of_a_collapse_name_none() -> None:
    watch = CollapseWatch(tiny_config())
    assert [watch.observe(step, {"grad_norm": 0.0}) for step in range(5)] == [None] * 5


def test_losses_are_kept_on_the_device_until_asked_for_and_survive_a_restart() -> None:
    history = LossHistory(3, CPU)
    history.add(torch.tensor(1.0))
    history.add(torch.tensor(2.5))
    assert history.values() == [1.0, 2.5]
    other = LossHistory(3, CPU)
    other.restore(history.state())
    other.add(torch.tensor(4.0))
    assert other.values() == [1.0, 2.5, 4.0]
    other.clear()
    assert other.values() == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_names_step_quantity_causes_and_what_is_left(bad: float) -> None:
    config = tiny_config(precision="fp16", clip_grad=0.0)
    with pytest.raises(DivergenceError) as caught:
        check_finite([1.0, 2.0, bad, bad], first_step=40, config=config, last_good="Step 30 is kept.")
    text = str(caught.value)
    assert text.startswith(f"step 42: the loss is {bad}")
    for word in ("fp16", "learning rate", "teacher temperature", "clip_grad is off", "Step 30 is kept."):
        assert word in text
    with pytest.raises(DivergenceError) as caught:
        check_finite([bad], first_step=0, config=tiny_config(), last_good="")
    assert "fp16" not in str(caught.value)
    with pytest.raises(DivergenceError) as caught:
        check_finite([bad], first_step=0, config=tiny_config(objective="byol"), last_good="")
    assert "teacher temperature" not in str(caught.value)


def test_finite_losses_pass() -> None:
    check_finite([0.0, 1e30], first_step=0, config=tiny_config(), last_good="")
