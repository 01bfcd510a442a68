"""Snapshots of a run: its two backbones at evenly spaced epochs, for curves over training (paper Fig. 6, App. D).

A snapshot is a checkpoint that nothing goes on from: no head, no optimizer. The evaluations read it like any other.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino.config import run_id
from dino.log import logger
from dino.running.checkpoint import write_checkpoint

if TYPE_CHECKING:
    from dino.training.loop import Training

FOLDER = "snapshots"
_NAME = re.compile(r"epoch-(\d+)\.pth")


def find_snapshots(folder: Path) -> list[tuple[int, Path]]:
    """(epoch, path) of the snapshots in ``folder``, in order."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("epoch-*.pth")]
    return sorted((int(match[1]), path) for match, path in found if match)


def snapshot_steps(count: int, *, total_steps: int, steps_per_epoch: int) -> dict[int, int]:
    """The epochs of about ``count`` snapshots, of which the last is the end of the run, and the steps that they follow.

    A short run has one an epoch at most. Where the run ends within an epoch, that epoch counts as its last.
    """
    last = math.ceil(total_steps / steps_per_epoch)
    epochs = sorted({max(1, round(number * last / count)) for number in range(1, count + 1)}) if last else []
    return {epoch: min(epoch * steps_per_epoch, total_steps) for epoch in epochs}


class Snapshots:
    """The snapshots of one run; like its journal they never show more than the run has reached.

    Args:
        run: The run.
        count: About how many to take; 0 takes none.
    """

    def __init__(self, run: Training, count: int) -> None:
        self.folder = run.run_dir / FOLDER
        self._run = run
        schedules = run.schedules
        steps = snapshot_steps(count, total_steps=schedules.total_steps, steps_per_epoch=schedules.steps_per_epoch)
        self._due = {step: epoch for epoch, step in steps.items()}

    def start(self) -> None:
        """Call when the run knows the step that it goes on from: later snapshots are dropped, and made again."""
        step, per_epoch = self._run.step, self._run.schedules.steps_per_epoch
        total = self._run.schedules.total_steps
        for epoch, path in find_snapshots(self.folder):
            if min(epoch * per_epoch, total) > step:
                path.unlink()
        for stale in self.folder.glob(".epoch-*.tmp.pth"):  # of a process that was killed while it wrote
            stale.unlink()
        missed = [epoch for at, epoch in self._due.items() if at <= step and not self._path(epoch).exists()]
        if missed:
            epochs = ", ".join(map(str, missed))
            logger.warning("no snapshot of epoch %s: the run was beyond it when snapshots were asked for", epochs)

    def take(self) -> None:
        """Call on rank 0 after each step: writes a snapshot where one is due."""
        epoch = self._due.get(self._run.step)
        if epoch is not None:
            write_checkpoint(self._path(epoch), self._state(epoch))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.pth"

    def _state(self, epoch: int) -> dict[str, Any]:
        run, step = self._run, self._run.step_once
        networks = {"student": step.student, "teacher": step.teacher}
        return {
            **{
                key: {name: value for name, value in network.state_dict().items() if name.startswith("backbone.")}
                for key, network in networks.items()
            },
            "step": run.step,
            "epoch": epoch,
            "steps_per_epoch": run.schedules.steps_per_epoch,
            "fingerprint": run.checkpoints.fingerprint,
            "run_id": run_id(run.config),
            "config": run.config.model_dump(mode="json"),
            "data_digest": run.loader.digest if run.loader else None,
        }
