"""Training a backbone and a classifier with labels: the loop of fine-tuning and of the supervised baselines.

The run directory is that of a pretraining: journal, status, partial checkpoints; a killed run goes on from its last
step and, on a CPU, ends with the same bits.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from dino.errors import DivergenceError, Interrupted, UserError
from dino.log import logger
from dino.running.checkpoint import CheckpointFolder
from dino.running.distributed import World, has_batch_norm, sum_over_ranks, wait_for_all, world_size
from dino.running.journal import Journal
from dino.running.precision import autocast, build_scaler
from dino.running.process import peak_memory_mib
from dino.running.progress import Progress, StatusFile
from dino.running.random_state import random_states, restore_random_states
from dino.running.signals import Agreement, StopRequest
from dino.training import optim
from dino.training.schedules import cosine_schedule, epochs_to_steps
from dino.training.supervised.classifier import Classifier
from dino.training.supervised.data import LabelledLoader
from dino.training.supervised.recipe import LabelledSettings
from dino.training.sync_batch_norm import synchronise_batch_norm
from dino.training.teacher import Teacher

CHECKPOINT_SECONDS = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a checkpoint says of the run that it belongs to (docs/architecture.md)."""

    run_id: str
    fingerprint: str
    config: dict[str, Any]
    """Fields of a `dino.config.RunConfig`: how `dino.models.load_backbone` knows the network."""


def learning_rates(settings: LabelledSettings, steps_per_epoch: int) -> NDArray[np.float64]:
    """Of every step: linear from ``warmup_lr`` to the peak lr * batch / 512, then a half cosine to ``min_lr``.

    DeiT changes the rate once an epoch; a step at a time is the same curve and suits runs of few epochs.
    """
    total = max(epochs_to_steps(settings.epochs, steps_per_epoch), 1)
    warmup = min(epochs_to_steps(settings.warmup_epochs, steps_per_epoch), total)
    peak = settings.lr * settings.batch_size / 512.0
    table = cosine_schedule(peak, min(settings.min_lr, peak), steps=total, warmup_steps=warmup)
    table[:warmup] = np.linspace(settings.warmup_lr, peak, warmup)
    return table


class LabelledTraining:
    """One run with labels, in its directory.

    Args:
        settings: Of the run.
        model: Backbone and classifier, on the CPU, with the weights to start from.
        loader: Of its training images.
        run_dir: Its directory.
        identity: For its checkpoints; another fingerprint's are refused.
        device: Where to train.
        world: This process among the ranks.
    """

    def __init__(
        self,
        settings: LabelledSettings,
        model: Classifier,
        loader: LabelledLoader,
        run_dir: Path,
        *,
        identity: RunIdentity,
        device: torch.device,
        world: World,
    ) -> None:
        self.settings, self.loader, self.run_dir, self.device, self.world = settings, loader, run_dir, device, world
        self.identity = identity
        if world.world_size > 1 and has_batch_norm(model):
            synchronise_batch_norm(model, device)
        self.model = model.to(device).train()
        self.average = copy.deepcopy(self.model).eval()
        self._averaging = Teacher(self.model, self.average)
        self.lr = learning_rates(settings, loader.steps_per_epoch)
        self.optimizer = optim.build_optimizer(self.model, settings.optimizer)
        self.scaler = build_scaler(settings.precision, device)
        self.checkpoints = CheckpointFolder(run_dir, identity.fingerprint)
        self.status = StatusFile(run_dir, enabled=world.is_main)
        self._loss = SoftTargetCrossEntropy()
        self._parallel = self._distributed() if world.world_size > 1 else None
        self.step = 0
        self.total_steps = len(self.lr)
        self.log_every = min(max(1, self.total_steps // 300), 100)
        self._agreement = Agreement()
        self._earlier_seconds = 0.0
        self._began = self._saved_at = self._logged_at = time.monotonic()
        self._logged_step = self._saved_step = 0
        self._sum = torch.zeros((), device=device)

    def _distributed(self) -> nn.parallel.DistributedDataParallel:
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            self.model, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False
        )

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> None:
        """Train to the end, from the newest checkpoint if there is one, and write ``checkpoint.pth``.

        Raises:
            Interrupted: ``stop`` was requested; the state has been saved.
            DivergenceError: The loss is not finite; the last good checkpoint stays.
            UserError: The directory belongs to another run, or cannot be written.
        """
        self._resume()
        journal = Journal(self.run_dir) if self.world.is_main else None
        try:
            if journal:
                journal.truncate(self.step)
            self._write_status("running")
            self._train(journal, stop)
            state = self._capture()
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

    def seconds(self) -> float:
        """Time spent on the run so far, over all its processes."""
        return self._earlier_seconds + time.monotonic() - self._began

    def _train(self, journal: Journal | None, stop: StopRequest) -> None:
        per_epoch, parts = self.loader.steps_per_epoch, self.settings.accumulate_steps
        what = f"{self.identity.run_id} with labels"
        with Progress(what, total=self.total_steps, start=self.step, enabled=self.world.is_main) as progress:
            self._pause_if_asked(journal, stop)
            while self.step < self.total_steps:
                epoch, within = divmod(self.step, per_epoch)
                batches = self.loader.iterate(epoch, within * parts)
                for _ in range(min(per_epoch - within, self.total_steps - self.step)):
                    self._sum += self._one_step(batches)
                    self.step += 1
                    if self.step % self.log_every == 0 or self.step == self.total_steps:
                        progress.show_loss(self._log(journal))
                    progress.advance(self.step)
                    self._pause_if_asked(journal, stop)

    def _one_step(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """One optimizer step; the loss averaged over its micro-batches, on the device."""
        settings, parts = self.settings, self.settings.accumulate_steps
        optim.set_hyperparameters(self.optimizer, lr=self.lr[self.step], weight_decay=settings.weight_decay)
        total = torch.zeros((), device=self.device)
        for _ in range(parts):
            images, targets = next(batches)
            with autocast(settings.precision, self.device):
                logits = (self._parallel or self.model)(images)
            loss = self._loss(logits.float(), targets) / parts
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        optim.clip_gradients(self.model, settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._averaging.after_step(momentum=settings.model_ema, ends_epoch=False)
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _log(self, journal: Journal | None) -> float:
        """Write one journal line; waits for the device. Returns the mean loss since the last."""
        steps = self.step - self._logged_step
        loss = float(sum_over_ranks(self._sum.clone()) / world_size()) / steps
        self._sum.zero_()
        if not np.isfinite(loss):
            raise DivergenceError(
                f"step {self.step - 1}: the mean loss of the last {steps} steps is {loss}. Likely causes: a learning "
                f"rate that is too high (lr {self.settings.lr:g}), precision {self.settings.precision}. The last "
                f"checkpoint stays in {self.checkpoints.folder}"
            )
        now = time.monotonic()
        speed = self.settings.batch_size * steps / (now - self._logged_at)
        self._logged_at, self._logged_step = now, self.step
        metrics = {
            "loss": loss,
            "lr": float(self.lr[self.step - 1]),
            "images_per_second": speed,
            "peak_memory_mib": peak_memory_mib(self.device),
        }
        if journal:
            journal.log(self.step, self.step / self.loader.steps_per_epoch, metrics)
        self._write_status("running", at_least_seconds_apart=5.0)
        return loss

    # --- state --------------------------------------------------------------------------------------------------------

    def _pause_if_asked(self, journal: Journal | None, stop: StopRequest) -> None:
        due = self.step > self._saved_step and time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        speed = (self.step + 1) / max(self.seconds(), 1e-9)
        halt, save = self._agreement.decide(self.step, stop=bool(stop), save=due, steps_per_second=speed)
        if (halt or save) and self.step > self._saved_step:
            state = self._capture()
            if journal:
                journal.sync()
                self.checkpoints.save(state)
            wait_for_all()
            self._saved_at, self._saved_step = time.monotonic(), self.step
        if halt:
            raise Interrupted(f"asked to stop ({stop.name or 'by another rank'}); saved at step {self.step}")

    def _capture(self) -> dict[str, Any]:
        epoch, within = divmod(self.step, self.loader.steps_per_epoch)
        weights = self.model.state_dict()
        return {
            # DeiT's result are the weights themselves; their average stands beside them.
            "student": weights,
            "teacher": weights,
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": random_states(self.device),
            "watch": {"loss_sum": self._sum.cpu(), "logged_step": self._logged_step},
            "step": self.step,
            "epoch": epoch,
            "offset": within * self.settings.accumulate_steps,
            "steps_per_epoch": self.loader.steps_per_epoch,
            "world_size": self.world.world_size,
            "threads": torch.get_num_threads(),
            "fingerprint": self.identity.fingerprint,
            "run_id": self.identity.run_id,
            "config": self.identity.config,
            "classes": list(self.loader.images.classes),
            "data_digest": self.loader.digest,
            "elapsed_seconds": self.seconds(),
        }

    def _resume(self) -> None:
        state = self.checkpoints.newest()
        if state is None:
            return
        if state["data_digest"] != self.loader.digest:
            raise UserError(
                f"{self.run_dir}: was trained on images with digest {state['data_digest']}, not {self.loader.digest}: "
                "the data set has changed; give it the old one, or remove that folder"
            )
        if state["steps_per_epoch"] != self.loader.steps_per_epoch:
            raise UserError(f"{self.run_dir}: its epochs had {state['steps_per_epoch']} steps: run it as before")
        self.model.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        same = restore_random_states(state["rng"], self.world, self.device)
        if not same or state["threads"] != torch.get_num_threads():
            logger.warning("going on with other ranks, threads or another device: a valid run, but not bit for bit")
        self.step = self._saved_step = state["step"]
        self._logged_step = state["watch"]["logged_step"]
        self._sum.copy_(state["watch"]["loss_sum"])
        self._earlier_seconds = state["elapsed_seconds"]
        if self.world.is_main:
            logger.info("resuming after step %d of %d", self.step, self.total_steps)

    def _write_status(self, status: str, message: str = "", *, at_least_seconds_apart: float = 0.0) -> None:
        self.status.write(
            status,
            step=self.step,
            seconds=self.seconds(),
            message=message,
            at_least_seconds_apart=at_least_seconds_apart,
        )
