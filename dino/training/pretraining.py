"""Pretraining as something resumable: student, teacher and objective, what is logged of them, and their state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dino.config import RunConfig
from dino.errors import DivergenceError
from dino.log import logger
from dino.models import build_networks
from dino.running.checkpoint import CheckpointFolder, RunIdentity
from dino.running.distributed import sum_over_ranks, world_size
from dino.running.random_state import derive_seed
from dino.running.resumable import Batches, Resumable, Running, log_interval
from dino.training.collapse import CollapseWatch, LossHistory, check_finite, divergence_message
from dino.training.optim import parameters_are_finite
from dino.training.schedules import build_schedules
from dino.training.snapshots import Snapshots
from dino.training.step import TrainStep


class Loader(Batches, Protocol):
    """What is asked of `dino.data.build_pretrain_loader`'s result."""

    steps_per_epoch: int
    digest: str


class Pretraining(Resumable):
    """One pretraining run.

    Args:
        config: Of the run.
        loader: Of its training images; None for a run of no epochs.
        running: Where and how it is run.
        snapshots: About how many snapshots of the backbones to keep (`dino.training.snapshots`).
    """

    checkpoints: CheckpointFolder

    def __init__(self, config: RunConfig, loader: Loader | None, running: Running, *, snapshots: int = 0) -> None:
        assert running.run_dir is not None
        self.config, self.loader, self.running = config, loader, running
        self.schedules = build_schedules(config, loader.steps_per_epoch if loader else 1)
        self.total_steps, self.steps_per_epoch = self.schedules.total_steps, self.schedules.steps_per_epoch
        self.accumulate_steps, self.batch_size, self.seed = config.accumulate_steps, config.batch_size, config.seed
        self.log_every = running.log_every or log_interval(self.total_steps)
        self.identity = RunIdentity.of(config, loader.digest if loader else None)
        self.checkpoints = CheckpointFolder(running.run_dir, self.identity.fingerprint)

        torch.manual_seed(derive_seed(config.seed, "networks"))
        student, teacher = build_networks(config)
        step = TrainStep(config, student, teacher, self.schedules, device=running.device, world=running.world)
        self.step_once = step
        torch.manual_seed(derive_seed(config.seed, "training", running.world.rank))
        self.losses = LossHistory(self.log_every, running.device)
        self.watch = CollapseWatch(config)
        self._stats: dict[str, Tensor] = {}
        self._snapshots = Snapshots(
            running.run_dir,
            snapshots,
            networks={"student": step.student, "teacher": step.teacher},
            identity=self.identity,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )

    # --- steps --------------------------------------------------------------------------------------------------------

    def start(self, step: int) -> None:
        """Drop the snapshots beyond ``step``."""
        self._snapshots.start(step)

    def take_step(self, step: int, batches: Iterator[list[Tensor]], *, logs: bool) -> None:
        """Make one optimizer step."""
        loss, self._stats = self.step_once(step, batches, with_stats=logs)
        self.losses.add(loss)

    def after_step(self, step: int) -> None:
        """Take a snapshot where one is due."""
        self._snapshots.take(step)

    # --- what is seen of it -------------------------------------------------------------------------------------------

    def log(self, step: int) -> dict[str, float]:
        """Losses, schedules and statistics since the last logged point; looks for divergence and collapse."""
        losses = self._finite_losses(step)
        self.losses.clear()
        names = sorted(self._stats)
        means = (sum_over_ranks(torch.stack([self._stats[name] for name in names])) / world_size()).tolist()
        values = dict(zip(names, means, strict=True))
        collapse = self.watch.observe(step, values)
        if collapse and self.running.world.is_main:
            logger.warning("step %d: %s; training goes on", step, collapse)
        last, schedules = step - 1, self.schedules
        return {
            "loss": sum(losses) / len(losses),
            "lr": float(schedules.lr[last]),
            "weight_decay": float(schedules.weight_decay[last]),
            "teacher_momentum": float(schedules.teacher_momentum[last]),
            **self.step_once.objective.hyperparameters(schedules.epoch_of(last)),
            **values,
        }

    def collapse(self) -> tuple[str | None, int | None]:
        """The kind of collapse that the run is in, and since which step."""
        return self.watch.kind, self.watch.step

    def check_finite(self, step: int) -> None:
        """Neither a pending loss nor a weight may have gone wrong."""
        self._finite_losses(step)
        if not parameters_are_finite(self.step_once.student):
            what = "a weight of the student is not finite (the losses before were)"
            raise DivergenceError(divergence_message(what, step - 1, self.config, self.checkpoints.last_good()))

    def _finite_losses(self, step: int) -> list[float]:
        """The losses since the last logged point."""
        losses = self.losses.values()
        first, last_good = step - len(losses), self.checkpoints.last_good()
        check_finite(losses, first_step=first, config=self.config, last_good=last_good)
        return losses

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The step's state, and what is watched between logged points."""
        watch = {"losses": self.losses.state(), "log_every": self.log_every, "collapse": self.watch.state_dict()}
        mirror = _mlflow_run_id(self.checkpoints.run_dir)
        return {**self.step_once.state_dict(), "watch": watch, "mlflow_run_id": mirror}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.step_once.load_state_dict(state)
        self.watch.load_state_dict(state["watch"]["collapse"])
        if state["watch"]["log_every"] == self.log_every:
            self.losses.restore(state["watch"]["losses"])


def _mlflow_run_id(run_dir: Path) -> str | None:
    """Which MLflow run mirrors this one, if `dino sync` has begun it; training never depends on that file."""
    try:
        return json.loads((run_dir / "mlflow.json").read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
