from __future__ import annotations

import math

import pytest
import torch

from dino.errors import DivergenceError
from dino.training.collapse import CONSTANT_STD, PATIENCE, CollapseWatch, LossHistory, check_finite
from tests.dino.training.tiny import CPU, tiny_config

LN_K = math.log(32)
LEARNING = {"output_std": 0.3, "teacher_entropy": 0.9 * LN_K, "kl": 0.1}
UNIFORM = {"output_std": 0.002, "teacher_entropy": 0.999 * LN_K, "kl": 0.0}


def observe(watch: CollapseWatch, stats: dict[str, float], times: int, first: int = 10) -> list[str | None]:
    return [watch.observe(first + index, {**stats, "grad_norm": 1.0}) for index in range(times)]


@pytest.mark.parametrize(
    ("entropy", "kind", "words"),
    [
        (0.999 * LN_K, "uniform", "collapse to the uniform output: the spread over images is 0.0020, the teacher's"),
        (0.001 * LN_K, "one-hot", "collapse to the one-hot output: the spread over images is 0.0020, the teacher's"),
        (0.5 * LN_K, "constant", "entropy is 1.7329 (ln K = 3.4657)"),
    ],
)
def test_collapse_is_named_once_after_some_points_in_a_row(entropy: float, kind: str, words: str) -> None:
    watch = CollapseWatch(tiny_config())
    messages = observe(watch, {"output_std": 0.002, "teacher_entropy": entropy, "kl": 0.0}, PATIENCE + 2)
    assert [bool(message) for message in messages] == [False] * (PATIENCE - 1) + [True, False, False]
    assert words in str(messages)
    assert (watch.kind, watch.step) == (kind, 10 + PATIENCE - 1)


@pytest.mark.parametrize("entropy", [0.9999, 0.5, 0.0])
def test_a_flat_or_sharp_teacher_that_tells_images_apart_is_no_collapse(entropy: float) -> None:
    # The teacher of the previous epoch is nearly uniform and is learnt from; one-hot targets have no entropy.
    watch = CollapseWatch(tiny_config())
    assert observe(watch, {**LEARNING, "teacher_entropy": entropy * LN_K, "kl": 0.0}, 10) == [None] * 10
    assert watch.kind is None


def test_recovery_clears_the_name_and_the_count() -> None:
    watch = CollapseWatch(tiny_config())
    observe(watch, UNIFORM, PATIENCE)
    observe(watch, LEARNING, 1)
    assert (watch.kind, watch.step) == (None, None)
    assert observe(watch, UNIFORM, PATIENCE - 1) == [None] * (PATIENCE - 1)


def test_counting_goes_on_after_a_restart() -> None:
    first, second = CollapseWatch(tiny_config()), CollapseWatch(tiny_config())
    observe(first, UNIFORM, PATIENCE - 1)
    second.load_state_dict(first.state_dict())
    observe(second, UNIFORM, 1, first=99)
    assert (second.kind, second.step) == ("uniform", 99)


def test_outputs_that_are_no_distributions_collapse_to_a_constant() -> None:
    watch = CollapseWatch(tiny_config(objective="byol"))
    messages = observe(watch, {"output_std": 0.1 * CONSTANT_STD}, PATIENCE)
    assert messages[-1] == "collapse to a constant output: the spread over images is 0.0050"
    assert watch.kind == "constant"


def test_statistics_that_say_nothing_of_a_collapse_name_none() -> None:
    assert observe(CollapseWatch(tiny_config()), {}, 5) == [None] * 5


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
