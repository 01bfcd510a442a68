"""The runner, on something whose whole state is a sum."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.errors import DivergenceError, Interrupted, UserError
from dino.running.checkpoint import CheckpointFile, CheckpointFolder, RunIdentity, read_checkpoint
from dino.running.journal import read
from dino.running.resumable import Resumable, Runner, Running, log_interval
from dino.running.signals import StopRequest

CPU = torch.device("cpu")
EPOCHS, STEPS = 3, 4


class Numbers:
    """Epoch e has the numbers 10 e, 10 e + 1, ..."""

    def iterate(self, epoch: int, start: int) -> Iterator[int]:
        return iter(range(10 * epoch + start, 10 * epoch + STEPS))


class Sum(Resumable):
    def __init__(self, running: Running, checkpoints: CheckpointFolder | CheckpointFile, *, digest: str = "d") -> None:
        self.running, self.checkpoints, self.loader = running, checkpoints, Numbers()
        self.identity = RunIdentity(run_id="sum", fingerprint="f", config={}, data_digest=digest)
        self.total_steps, self.steps_per_epoch, self.batch_size, self.seed = EPOCHS * STEPS, STEPS, 1, 0
        self.log_every = running.log_every or log_interval(self.total_steps)
        self.sum, self.calls = 0.0, list[str]()

    def take_step(self, step: int, batches: Iterator[int], *, logs: bool) -> None:
        self.sum += next(batches)
        self.calls.append(f"step {step}")

    def start(self, step: int) -> None:
        self.calls.append(f"start {step}")

    def after_step(self, step: int) -> None:
        self.calls.append(f"after {step}")

    def log(self, step: int) -> dict[str, float]:
        self.calls.append(f"log {step}")
        return {"loss": self.sum}

    def check_finite(self, step: int) -> None:
        if not math.isfinite(self.sum):
            raise DivergenceError(f"after {step} steps")

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sum = state["sum"]


class StopAt(StopRequest):
    def __init__(self, work: Sum, call: str) -> None:
        super().__init__()
        self.work, self.call, self.name = work, call, "SIGTERM"

    def __bool__(self) -> bool:
        return self.call in self.work.calls


def build(run_dir: Path, *, digest: str = "d", **running: Any) -> Runner[Sum]:
    where = Running(run_dir=run_dir, device=CPU, progress=False, **running)
    return Runner(Sum(where, CheckpointFolder(run_dir, "f"), digest=digest))


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


def test_a_run_makes_its_steps_logs_and_ends_with_a_checkpoint(tmp_path: Path) -> None:
    runner = build(tmp_path, log_every=5)
    runner.run(StopRequest())
    assert runner.work.sum == sum(range(4)) + sum(range(10, 14)) + sum(range(20, 24))
    assert runner.work.calls[:3] == ["start 0", "step 0", "after 1"]
    assert [call for call in runner.work.calls if call.startswith("log")] == ["log 5", "log 10", "log 12"]
    assert runner.work.calls[-3:] == ["step 11", "log 12", "after 12"]
    state = read_checkpoint(tmp_path / "checkpoint.pth")
    assert (state["sum"], state["step"], state["epoch"], state["run_id"]) == (runner.work.sum, 12, 3, "sum")
    assert [record.step for record in read(tmp_path)] == [5, 10, 12]
    assert (status(tmp_path)["status"], status(tmp_path)["step"]) == ("finished", 12)


@pytest.mark.parametrize("step", [0, 1, 4, 6, 11])
def test_stopped_anywhere_it_goes_on_there(tmp_path: Path, step: int) -> None:
    runner = build(tmp_path, log_every=1)
    with pytest.raises(Interrupted, match=f"sum: stopped by SIGTERM after step {step} of 12, state saved"):
        runner.run(StopAt(runner.work, f"after {step}" if step else "start 0"))
    assert (status(tmp_path)["status"], status(tmp_path)["step"]) == ("interrupted", step)
    again = build(tmp_path, log_every=1)
    again.run(StopRequest())
    assert again.work.calls[:2] == [f"start {step}", f"step {step}"]
    assert again.work.sum == 144 - 6
    assert [record.step for record in read(tmp_path)] == list(range(1, 13))


def test_a_stop_after_the_last_step_ends_the_run_as_usual(tmp_path: Path) -> None:
    runner = build(tmp_path)
    runner.run(StopAt(runner.work, "after 12"))
    assert status(tmp_path)["status"] == "finished"


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    runner = build(tmp_path, checkpoint_minutes=0.0)
    runner.work.loader.iterate = lambda epoch, start: iter([1.0, 1.0, math.inf, 1.0][start:])  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="after 3 steps"):
        runner.run(StopRequest())
    assert runner.work.checkpoints.newest()["step"] == 2
    assert (status(tmp_path)["status"], status(tmp_path)["message"]) == ("failed", "DivergenceError: after 3 steps")


def test_other_data_and_other_epochs_are_refused(tmp_path: Path) -> None:
    build(tmp_path).run(StopRequest())
    with pytest.raises(UserError, match="digest d, not other: the data set has changed"):
        build(tmp_path, digest="other").run(StopRequest())
    runner = build(tmp_path)
    runner.work.steps_per_epoch = 5
    with pytest.raises(UserError, match="epochs had 4 steps and now have 5"):
        runner.run(StopRequest())


def test_without_a_run_directory_only_the_state_is_kept(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "state.pth", "f")
    runner = Runner(Sum(Running(run_dir=None, device=CPU, progress=False), file))
    with pytest.raises(Interrupted):
        runner.run(StopAt(runner.work, "after 2"))
    again = Runner(Sum(Running(run_dir=None, device=CPU, progress=False), file))
    again.run(StopRequest())
    assert again.work.calls[0] == "start 2"
    assert [path.name for path in tmp_path.iterdir()] == ["state.pth"]


@pytest.mark.parametrize(("total", "every"), [(0, 1), (15, 1), (600, 2), (3000, 10), (125_100, 100)])
def test_logged_points_are_a_few_hundred_for_short_runs(total: int, every: int) -> None:
    assert log_interval(total) == every
