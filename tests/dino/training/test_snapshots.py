from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from dino.errors import Interrupted
from dino.evaluation.checkpoints import load_evaluated
from dino.running.checkpoint import read_checkpoint
from dino.running.signals import StopRequest
from dino.training.snapshots import find_snapshots, snapshot_steps
from tests.dino.training.tiny import equal_bits, tiny_config, tiny_training, train


def taken(run_dir: Path) -> list[int]:
    return [epoch for epoch, _ in find_snapshots(run_dir / "snapshots")]


def stop_after(run_dir: Path, step: int, **options: object) -> None:
    """Train until ``step`` steps are made, as if a signal had come then; the last checkpoint is older."""
    training = tiny_training(tiny_config(), run_dir, checkpoint_every_epochs=2, **options)
    add = training.work.losses.add

    def add_or_die(loss: torch.Tensor) -> None:
        if training.step == step:
            raise KeyboardInterrupt
        add(loss)

    training.work.losses.add = add_or_die  # type: ignore[method-assign]
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        training.run(StopRequest())


@pytest.mark.parametrize(
    ("count", "total", "steps"),
    [
        (3, 300 * 4, {100: 400, 200: 800, 300: 1200}),
        (10, 14 * 4, {1: 4, 3: 12, 4: 16, 6: 24, 7: 28, 8: 32, 10: 40, 11: 44, 13: 52, 14: 56}),
        (10, 2 * 4, {1: 4, 2: 8}),
        (2, 10, {2: 8, 3: 10}),
        (5, 0, {}),
        (0, 12, {}),
    ],
)
def test_snapshots_are_evenly_spaced_and_end_with_the_run(count: int, total: int, steps: dict[int, int]) -> None:
    assert snapshot_steps(count, total_steps=total, steps_per_epoch=4) == steps


def test_a_snapshot_is_both_backbones_of_its_epoch_and_changes_nothing_of_the_run(tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "with", snapshots=3)
    train(tiny_config(), tmp_path / "without")
    assert taken(tmp_path / "with") == [1, 2, 3]
    assert not (tmp_path / "without" / "snapshots").exists()
    final = read_checkpoint(tmp_path / "with" / "checkpoint.pth")
    last = read_checkpoint(tmp_path / "with" / "snapshots" / "epoch-3.pth")
    for key in ("student", "teacher"):
        backbone = {name: value for name, value in final[key].items() if name.startswith("backbone.")}
        assert equal_bits(last[key], backbone)
        assert equal_bits(final[key], read_checkpoint(tmp_path / "without" / "checkpoint.pth")[key])
    assert "optimizer" not in last
    assert last["fingerprint"] == final["fingerprint"]


def test_evaluations_read_a_snapshot(tmp_path: Path) -> None:
    training = train(tiny_config(), tmp_path, snapshots=1)
    backbone, identity = load_evaluated(str(tmp_path / "snapshots" / "epoch-3.pth"), key="student")
    assert isinstance(backbone, nn.Module)
    assert equal_bits(dict(backbone.state_dict()), dict(training.work.step_once.student.backbone.state_dict()))
    assert identity.fingerprint == training.work.checkpoints.fingerprint


def test_a_run_that_was_killed_has_the_snapshots_of_one_that_was_not(tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "whole", snapshots=3)
    stop_after(tmp_path / "parts", 5, snapshots=3)  # epoch 1 has a snapshot and no checkpoint
    assert taken(tmp_path / "parts") == [1]
    (tmp_path / "parts" / "snapshots" / "epoch-1.pth").write_bytes(b"of weights that are trained again")
    (tmp_path / "parts" / "snapshots" / ".epoch-2.1-ab.tmp.pth").write_bytes(b"killed while it wrote")
    train(tiny_config(), tmp_path / "parts", snapshots=3)
    for (_, whole), (_, part) in zip(
        find_snapshots(tmp_path / "whole" / "snapshots"), find_snapshots(tmp_path / "parts" / "snapshots"), strict=True
    ):
        assert equal_bits(read_checkpoint(whole), read_checkpoint(part))
    assert len(list((tmp_path / "parts" / "snapshots").iterdir())) == 3


def test_snapshots_that_the_run_has_passed_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop_after(tmp_path, 10)
    with caplog.at_level(logging.WARNING):
        train(tiny_config(), tmp_path, snapshots=3)
    assert taken(tmp_path) == [3]
    assert "no snapshot of epoch 1, 2" in caplog.text
