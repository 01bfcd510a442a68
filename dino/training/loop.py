"""The training loop: epochs, logged points, checkpoints, and every way a run can end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dino.config import RunConfig, fingerprint, run_id
from dino.errors import DivergenceError, Interrupted
from dino.log import logger
from dino.models import build_networks
from dino.running.checkpoint import CheckpointFolder
from dino.running.distributed import World, sum_over_ranks, wait_for_all, world_size
from dino.running.journal import Journal
from dino.running.process import peak_memory_mib
from dino.running.progress import Progress, StatusFile
from dino.running.random_state import derive_seed
from dino.running.signals import Agreement, StopRequest
from dino.training.collapse import CollapseWatch, LossHistory, check_finite, divergence_message
from dino.training.optim import parameters_are_finite
from dino.training.schedules import build_schedules
from dino.training.snapshots import Snapshots
from dino.training.state import capture, restore
from dino.training.step import TrainStep

CHECKPOINT_SHARE = 0.05
"""At epoch ends at most this share of the time goes into writing checkpoints: short epochs would write all the time."""


class Loader(Protocol):
    """What the loop asks of `dino.data.build_pretrain_loader`'s result."""

    steps_per_epoch: int
    digest: str

    def iterate(self, epoch: int, start: int) -> Iterator[list[Tensor]]:
        """Micro-batches of an epoch from the ``start``-th on."""


@dataclass(frozen=True)
class LoopSettings:
    """How a run is run; nothing here changes its result."""

    checkpoint_minutes: float = 30.0
    checkpoint_every_epochs: int = 1
    log_every: int | None = None
    """Steps between logged points; None chooses (`log_interval`)."""
    snapshots: int = 0
    """About how many snapshots of the backbones to keep (`dino.training.snapshots`)."""
    progress: bool = True


def log_interval(total_steps: int) -> int:
    """Steps between logged points: about 300 points for a short run, one each 100 steps for a long one."""
    return min(max(1, total_steps // 300), 100)


class Training:
    """One pretraining run in its directory."""

    def __init__(
        self,
        config: RunConfig,
        loader: Loader | None,
        run_dir: Path,
        *,
        device: torch.device,
        world: World | None = None,
        settings: LoopSettings | None = None,
    ) -> None:
        self.config, self.loader, self.run_dir, self.device = config, loader, run_dir, device
        self.world, self.settings = world or World(), settings or LoopSettings()
        self.schedules = build_schedules(config, loader.steps_per_epoch if loader else 1)
        self.log_every = self.settings.log_every or log_interval(self.schedules.total_steps)
        self.checkpoints = CheckpointFolder(run_dir, fingerprint(config))

        torch.manual_seed(derive_seed(config.seed, "networks"))
        student, teacher = build_networks(config)
        self.step_once = TrainStep(config, student, teacher, self.schedules, device=device, world=self.world)
        torch.manual_seed(derive_seed(config.seed, "training", self.world.rank))

        self.step = 0
        self.losses = LossHistory(self.log_every, device)
        self.watch = CollapseWatch(config)
        self.status = StatusFile(run_dir, enabled=self.world.is_main)
        self.agreement = Agreement()
        self.snapshots = Snapshots(self, self.settings.snapshots)
        self._began = self._logged_at = self._saved_at = time.monotonic()
        self.earlier_seconds = self._write_seconds = 0.0
        self._logged_step = self._saved_step = 0

    # --- the run ----------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> None:
        """Train to the end, from the newest checkpoint if there is one, and write ``checkpoint.pth``.

        Raises:
            Interrupted: ``stop`` was requested; the state has been saved.
            DivergenceError: A loss or a weight is not finite; the last good checkpoint stays.
            UserError: The run directory belongs to another configuration, or cannot be written.
        """
        self.resume()
        journal = Journal(self.run_dir) if self.world.is_main else None
        try:
            if journal:
                journal.truncate(self.step)
                self.snapshots.start()
            self._write_status("running")
            self._train(journal, stop)
            self._require_finite()
            state = capture(self)
            if journal:
                journal.sync()
                self.checkpoints.finish(state)
            wait_for_all()
            self._write_status("finished")
        except Interrupted as interruption:
            self._write_status("interrupted", str(interruption))
            raise
        except BaseException as error:
            self._write_status("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if journal:
                journal.close()

    def _train(self, journal: Journal | None, stop: StopRequest) -> None:
        per_epoch, total = self.schedules.steps_per_epoch, self.schedules.total_steps
        show = self.settings.progress and self.world.is_main
        with Progress(run_id(self.config), total=total, start=self.step, enabled=show) as progress:
            self._pause_if_asked(journal, stop)
            while self.step < total:
                assert self.loader is not None
                epoch, within = divmod(self.step, per_epoch)
                batches = iter(self.loader.iterate(epoch, within * self.config.accumulate_steps))
                for _ in range(min(per_epoch - within, total - self.step)):
                    logs = (self.step + 1) % self.log_every == 0 or self.step + 1 == total
                    loss, stats = self.step_once(self.step, batches, with_stats=logs)
                    self.losses.add(loss)
                    self.step += 1
                    if logs:
                        progress.show_loss(self._log(journal, stats))
                    if journal:  # before the checkpoint of this step, which then never lacks it
                        self.snapshots.take()
                    progress.advance(self.step)
                    self._pause_if_asked(journal, stop)

    # --- logged points ----------------------------------------------------------------------------------------------

    def _log(self, journal: Journal | None, stats: dict[str, Tensor]) -> float:
        """Write one journal line and look for divergence and collapse; waits for the device. Returns the mean loss."""
        losses = self.losses.values()
        self._check(losses)
        names = sorted(stats)
        means = (sum_over_ranks(torch.stack([stats[name] for name in names])) / world_size()).tolist()
        values = dict(zip(names, means, strict=True))
        last, schedules = self.step - 1, self.schedules
        now = time.monotonic()
        metrics = {
            "loss": sum(losses) / len(losses),
            "lr": float(schedules.lr[last]),
            "weight_decay": float(schedules.weight_decay[last]),
            "teacher_momentum": float(schedules.teacher_momentum[last]),
            **self.step_once.objective.hyperparameters(schedules.epoch_of(last)),
            **values,
            "images_per_second": self.config.batch_size * (self.step - self._logged_step) / (now - self._logged_at),
            "peak_memory_mib": peak_memory_mib(self.device),
        }
        self.losses.clear()
        self._logged_at, self._logged_step = now, self.step
        if journal:
            journal.log(self.step, self.step / schedules.steps_per_epoch, metrics)
        collapse = self.watch.observe(self.step, values)
        if collapse and self.world.is_main:
            logger.warning("step %d: %s; training goes on", self.step, collapse)
        self.status.collapse(self.watch.kind, self.watch.step)
        self._write_status("running", at_least_seconds_apart=0.0 if collapse else 5.0)
        return metrics["loss"]

    def _check(self, losses: list[float]) -> None:
        check_finite(losses, first_step=self.step - len(losses), config=self.config, last_good=self._last_good())

    def _require_finite(self) -> None:
        """Before a checkpoint: neither a pending loss nor a weight may have gone wrong."""
        self._check(self.losses.values())
        if not parameters_are_finite(self.step_once.student):
            what = "a weight of the student is not finite (the losses before were)"
            raise DivergenceError(divergence_message(what, self.step - 1, self.config, self._last_good()))

    def _last_good(self) -> str:
        partials = self.checkpoints.partials()
        if not partials:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint, of step {partials[0][0]}, is kept: {partials[0][1]}"

    # --- state ------------------------------------------------------------------------------------------------------

    def _pause_if_asked(self, journal: Journal | None, stop: StopRequest) -> None:
        """At a step boundary: save if it is time, stop if asked; all ranks alike."""
        now = time.monotonic()
        per_epoch, total = self.schedules.steps_per_epoch, self.schedules.total_steps
        epoch_ends = self.step % (per_epoch * self.settings.checkpoint_every_epochs) == 0
        due = now - self._saved_at >= 60.0 * self.settings.checkpoint_minutes
        due |= epoch_ends and self._write_seconds <= CHECKPOINT_SHARE * (now - self._saved_at)
        done = self.step - self._logged_step
        stopping, saving = self.agreement.decide(
            self.step,
            stop=bool(stop),
            save=due and self.step < total,  # the end writes its own
            steps_per_second=done / (now - self._logged_at) if done else 1.0,
            at_once=epoch_ends or self.step == total,
        )
        if (saving or stopping) and self.step > self._saved_step:
            self._save(journal)
        if stopping and self.step < total:
            raise Interrupted(
                f"{run_id(self.config)}: stopped by {stop.name or 'a signal to another rank'} after step {self.step} "
                f"of {total}, state saved; run the same command again to go on"
            )

    def _save(self, journal: Journal | None) -> None:
        self._require_finite()
        started = time.monotonic()
        state = capture(self)
        if journal:
            journal.sync()
            self.checkpoints.save(state)
        wait_for_all()  # no rank may exit while rank 0 still writes
        self._saved_at, self._saved_step = time.monotonic(), self.step
        self._write_seconds = self._saved_at - started

    def resume(self) -> bool:
        """Continue from the newest checkpoint that loads; False where there is none.

        Raises:
            UserError: It belongs to another configuration or to other data.
        """
        state = self.checkpoints.newest()
        if state is None:
            return False
        restore(self, state)
        self._saved_step = self._logged_step = self.step
        self.status.collapse(self.watch.kind, self.watch.step)
        if self.world.is_main:
            logger.info("resuming %s after step %d of %d", run_id(self.config), self.step, self.schedules.total_steps)
        return True

    def seconds(self) -> float:
        """Time spent on the run so far, over all its processes."""
        return self.earlier_seconds + time.monotonic() - self._began

    def _write_status(self, status: str, message: str = "", *, at_least_seconds_apart: float = 0.0) -> None:
        self.status.write(
            status,
            step=self.step,
            seconds=self.seconds(),
            message=message,
            at_least_seconds_apart=at_least_seconds_apart,
        )
