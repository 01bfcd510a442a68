"""Every objective through the training loop, which does not know which one it runs."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.config import RunConfig, dump_config, load_config
from dino.errors import UserError
from dino.models import build_networks
from dino.running.checkpoint import read_checkpoint
from dino.running.journal import read
from tests.dino.running.processes import can_fork, run_ranks
from tests.dino.running.test_resume import train_rank
from tests.dino.training.test_pretraining import journal_without_times, status, stop_at
from tests.dino.training.tiny import equal_bits, run_steps, tiny_config, tiny_step, tiny_training, train

BYOL = {"objective": "byol", "predictor": True, "head_bn": True, "predictor_hidden_dim": 20}
MOCO = {"objective": "mocov2", "head_bn": True, "queue_size": 50}
SWAV = {"objective": "swav", "teacher": "student_copy", "norm_last_layer": True}
RESNET = {
    **dict.fromkeys(("embed_dim", "depth", "num_heads")),
    **{"arch": "resnet_nano", "head_bn": True, "optimizer": "lars", "global_crop_size": 32, "local_crop_size": 16},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dino": {},
    "dino-mse": {"loss": "mse"},
    "dino-sinkhorn": {"centering": "sinkhorn"},
    "dino-softmax-batch": {"centering": "softmax_batch"},
    "dino-predictor": {"predictor": True, "predictor_hidden_dim": 20},
    "byol": BYOL,
    "mocov2": MOCO,
    "swav": SWAV,
}

PRETRAININGS: dict[str, dict[str, Any]] = {  # paper.md, D.1: what sets each apart, tiny
    "P07": {**MOCO, "num_local_crops": 0},
    "P08": {**SWAV, "num_local_crops": 3},
    "P09": {**MOCO, **RESNET, "num_local_crops": 0},
    "P10": {**BYOL, **RESNET, "num_local_crops": 0},
    "P11": {**SWAV, **RESNET},
    "P12": RESNET,
    "P13": {"num_local_crops": 5},
    "P14": {"num_local_crops": 3},
    "P15": {"num_local_crops": 1},
    "P16": {"num_local_crops": 0},
    "P17": {"teacher": "student_copy"},
    "P18": {"centering": "sinkhorn"},
    "P19": {"loss": "mse"},
    "P20": {"predictor": True, "predictor_hidden_dim": 20},
    "P21": {**BYOL, "num_local_crops": 0},
    "P22": {**MOCO, "num_local_crops": 0},
    "P23": SWAV,
    "P24": MOCO,
    "P25": {**BYOL, "num_local_crops": 0, "predictor": False},
    "P26": {"loss": "mse", "num_local_crops": 0},
    "P27": BYOL,
    "P28": {**SWAV, "num_local_crops": 0},
    "P29": {"centering": "softmax_batch"},
    "P30": {"centering": "softmax_batch", "teacher": "student_copy"},
    "P31": {"teacher": "previous_iteration"},
    "P32": {"teacher": "previous_epoch"},
    "P33": {"num_heads": 4},
    "P46": {"batch_size": 2},
    "P47": {"head_bn": True},
    "P48": {"head_layers": 1},
    "P49": {"head_layers": 2},
    "P50": {"head_layers": 3},
    **{f"P{50 + layers}": {"head_bottleneck": False, "head_layers": layers} for layers in (1, 2, 3, 4)},
    "P55": {"out_dim": 8},
    "P58": {"head_activation": "relu"},
    "P59": {"center_momentum": 0.0},
    "P60": {"center_momentum": 0.99},
    "P61": {"center_momentum": 0.999},
    "P71": {"centering": "none"},
    "P72": {"teacher_temp": 0.1, "warmup_teacher_temp": None},
}


@pytest.mark.parametrize("row", PRETRAININGS)
def test_every_pretraining_of_the_paper_can_be_said_and_trains(row: str, tmp_path: Path) -> None:
    config = tiny_config(**PRETRAININGS[row])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    results = run_steps(tiny_step(config), 3, stats=True)
    assert all(math.isfinite(value) for loss, stats in results for value in (loss, *stats.values()))
    assert results[0][0] != results[2][0]


@pytest.mark.parametrize("local_crops", [0, 2])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_interrupted_run_of_any_objective_goes_on_bit_for_bit(tmp_path: Path, name: str, local_crops: int) -> None:
    config = tiny_config(**OBJECTIVES[name], num_local_crops=local_crops, epochs=2)
    train(config, tmp_path / "whole")
    stop_at(config, tmp_path / "parts", 3)
    torch.manual_seed(99)  # nothing of this process may matter
    train(config, tmp_path / "parts")
    whole, parts = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("whole", "parts"))
    del whole["elapsed_seconds"], parts["elapsed_seconds"]
    assert equal_bits(whole, parts)
    assert repr(journal_without_times(tmp_path / "whole")) == repr(journal_without_times(tmp_path / "parts"))


@can_fork
@pytest.mark.parametrize("name", ["dino-mse", "dino-sinkhorn", "byol", "mocov2", "swav"])
def test_two_ranks_equal_one_process_on_the_same_global_batch(tmp_path: Path, name: str) -> None:
    config = tiny_config(**OBJECTIVES[name], drop_path_rate=0.0, epochs=2, base_lr=0.01)
    assert run_ranks(lambda rank: train_rank(config, tmp_path / "two"), tmp_path) == [0, 0]
    train(config, tmp_path / "one", log_every=1)
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("one", "two"))
    for part in ("teacher", "objective"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            torch.testing.assert_close(two[part][key], value, rtol=1e-2, atol=1e-3, msg=key)
    for a, b in zip(read(tmp_path / "one"), read(tmp_path / "two"), strict=True):
        assert b.metrics["loss"] == pytest.approx(a.metrics["loss"], rel=2e-3)


@pytest.mark.parametrize("name", ["dino-mse", "dino-predictor", "byol", "mocov2"])
def test_accumulated_micro_batches_equal_the_big_batch(name: str) -> None:
    # Not with batch norm, nor with Sinkhorn, which see a micro-batch at a time.
    changes = {**OBJECTIVES[name], "head_bn": False, "drop_path_rate": 0.0, "base_lr": 0.01}
    whole, split = (tiny_step(tiny_config(**changes, accumulate_steps=parts)) for parts in (1, 4))
    losses = [[loss for loss, _ in run_steps(step, 4)] for step in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for key, value in whole.objective.state_dict().items():
        torch.testing.assert_close(split.objective.state_dict()[key], value, rtol=1e-2, atol=1e-3, msg=key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_follows_float32(name: str) -> None:
    changes = {**OBJECTIVES[name], "drop_path_rate": 0.0, "base_lr": 0.001}
    losses = [
        [loss for loss, _ in run_steps(tiny_step(tiny_config(**changes, precision=precision)), 3)]
        for precision in ("fp32", "bf16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_a_queue_longer_than_the_run_or_shorter_than_a_step_works() -> None:
    for size in (1, 5, 10_000):
        step = tiny_step(tiny_config(**{**MOCO, "queue_size": size}))
        assert all(math.isfinite(loss) for loss, _ in run_steps(step, 6))
        assert int(step.objective.oldest) == 6 * 2 * 8 % size if size > 16 else True


@pytest.mark.parametrize(
    ("name", "names"),
    [("swav", {"teacher_entropy", "kl", "output_std"}), ("byol", {"output_std"}), ("mocov2", {"output_std"})],
)
def test_the_journal_has_the_statistics_of_the_objective(tmp_path: Path, name: str, names: set[str]) -> None:
    train(tiny_config(**OBJECTIVES[name], base_lr=0.001), tmp_path)
    metrics = read(tmp_path)[-1].metrics
    assert set(metrics) & {"teacher_entropy", "kl", "output_std", "teacher_temp"} == names
    assert status(tmp_path)["collapse"] is None


def test_collapse_to_a_constant_vector_is_warned_of_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dino"), "propagate", True)
    training = tiny_training(tiny_config(**{**BYOL, "head_bn": False}), tmp_path, log_every=1)
    with torch.no_grad():  # weights of zero and a bias: one output for all
        for network in (training.work.step_once.student, training.work.step_once.teacher):
            network.head.mlp[-1].weight.zero_()
            network.head.mlp[-1].bias.fill_(1.0)
    training.work.schedules.lr[:] = 0.0
    from dino.running.signals import StopRequest

    training.run(StopRequest())
    assert (status(tmp_path)["collapse"], status(tmp_path)["collapse_step"]) == ("constant", 3)
    assert "collapse to a constant output" in caplog.text


def test_supervised_training_is_not_here_yet() -> None:
    with pytest.raises(UserError, match=r"'supervised' is not here yet \(known: dino, byol"):
        build_networks(RunConfig(objective="supervised"))
