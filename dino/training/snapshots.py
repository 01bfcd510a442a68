"""Snapshots of a run: its two backbones at evenly spaced epochs, for curves over training (paper Fig. 6, App. D).

A snapshot is a checkpoint that nothing goes on from: no head, no optimizer. The evaluations read it like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from dino.log import logger
from dino.running.checkpoint import RunIdentity, write_checkpoint

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
        run_dir: Of the run.
        count: About how many to take; 0 takes none.
        networks: ``student`` and ``teacher``.
        identity: What a snapshot says of the run.
        total_steps: Of the run.
        steps_per_epoch: Of the run.
    """

    def __init__(
        self,
        run_dir: Path,
        count: int,
        *,
        networks: Mapping[str, nn.Module],
        identity: RunIdentity,
        total_steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.folder = run_dir / FOLDER
        self._networks, self._identity = networks, identity
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        steps = snapshot_steps(count, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        self._due = {step: epoch for epoch, step in steps.items()}

    def start(self, step: int) -> None:
        """Call when the run knows the ``step`` that it goes on from: later snapshots are dropped, and made again."""
        for epoch, path in find_snapshots(self.folder):
            if min(epoch * self._steps_per_epoch, self._total_steps) > step:
                path.unlink()
        for stale in self.folder.glob(".epoch-*.tmp.pth"):  # of a process that was killed while it wrote
            stale.unlink()
        missed = [epoch for at, epoch in self._due.items() if at <= step and not self._path(epoch).exists()]
        if missed:
            epochs = ", ".join(map(str, missed))
            logger.warning("no snapshot of epoch %s: the run was beyond it when snapshots were asked for", epochs)

    def take(self, step: int) -> None:
        """Call on rank 0 after each step: writes a snapshot where one is due."""
        epoch = self._due.get(step)
        if epoch is not None:
            write_checkpoint(self._path(epoch), self._state(step, epoch))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.pth"

    def _state(self, step: int, epoch: int) -> dict[str, Any]:
        backbones = {
            key: {name: value for name, value in network.state_dict().items() if name.startswith("backbone.")}
            for key, network in self._networks.items()
        }
        position = {"step": step, "epoch": epoch, "steps_per_epoch": self._steps_per_epoch}
        return {**backbones, **position, **asdict(self._identity)}
