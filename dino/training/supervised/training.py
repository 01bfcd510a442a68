"""Training a backbone and a classifier with labels: what fine-tuning and the supervised baselines share.

The run directory is that of a pretraining: journal, status, partial checkpoints; a killed run goes on from its last
step and, on a CPU, ends with the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor

from dino.errors import DivergenceError
from dino.running.checkpoint import CheckpointFolder, RunIdentity
from dino.running.distributed import average_gradients, has_batch_norm, sum_over_ranks, world_size
from dino.running.precision import autocast, build_scaler
from dino.running.resumable import Resumable, Running, log_interval
from dino.training import optim
from dino.training.schedules import cosine_schedule, epochs_to_steps
from dino.training.supervised.classifier import Classifier
from dino.training.supervised.data import LabelledLoader
from dino.training.supervised.recipe import LabelledSettings
from dino.training.sync_batch_norm import synchronise_batch_norm
from dino.training.teacher import Teacher


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


class LabelledTraining(Resumable):
    """One run with labels.

    Args:
        settings: Of the run.
        model: Backbone and classifier, on the CPU, with the weights to start from.
        loader: Of its training images.
        identity: For its checkpoints; another fingerprint's are refused.
        running: Where and how it is run.
    """

    checkpoints: CheckpointFolder
    loader: LabelledLoader

    def __init__(
        self,
        settings: LabelledSettings,
        model: Classifier,
        loader: LabelledLoader,
        *,
        identity: RunIdentity,
        running: Running,
    ) -> None:
        assert running.run_dir is not None
        self.settings, self.loader, self.identity, self.running = settings, loader, identity, running
        self.checkpoints = CheckpointFolder(running.run_dir, identity.fingerprint)
        self.lr = learning_rates(settings, loader.steps_per_epoch)
        self.total_steps, self.steps_per_epoch = len(self.lr), loader.steps_per_epoch
        self.accumulate_steps, self.batch_size = settings.accumulate_steps, settings.batch_size
        self.log_every = running.log_every or log_interval(self.total_steps)
        self.seed = settings.seed
        self.device, several = running.device, running.world.world_size > 1
        if several and has_batch_norm(model):
            synchronise_batch_norm(model, self.device)
        self.model = model.to(self.device).train()
        self.average = copy.deepcopy(self.model).eval()
        self._averaging = Teacher(self.model, self.average)
        self.optimizer = optim.build_optimizer(self.model, settings.optimizer)
        self.scaler = build_scaler(settings.precision, self.device)
        self._objective = SoftTargetCrossEntropy()
        self._parallel = average_gradients(self.model, self.device) if several else None
        # DeiT's result are the weights themselves; their average stands beside them.
        self._parts: dict[str, Any] = {
            "student": self.model,
            "teacher": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }
        self._loss_sum = torch.zeros((), device=self.device)
        self._logged_step = 0

    def take_step(self, step: int, batches: Iterator[tuple[Tensor, Tensor]], *, logs: bool) -> None:
        """Make one optimizer step."""
        settings, parts = self.settings, self.settings.accumulate_steps
        optim.set_hyperparameters(self.optimizer, lr=self.lr[step], weight_decay=settings.weight_decay)
        total = torch.zeros((), device=self.device)
        for _ in range(parts):
            images, targets = next(batches)
            with autocast(settings.precision, self.device):
                logits = (self._parallel or self.model)(images)
            loss = self._objective(logits.float(), targets) / parts
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        optim.clip_gradients(self.model, settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._averaging.after_step(momentum=settings.model_ema, ends_epoch=False)
        self.optimizer.zero_grad(set_to_none=True)
        self._loss_sum += total

    def log(self, step: int) -> dict[str, float]:
        """The mean loss since the last logged point, and the learning rate."""
        loss = self._mean_loss(step)
        self._loss_sum.zero_()
        self._logged_step = step
        return {"loss": loss, "lr": float(self.lr[step - 1])}

    def check_finite(self, step: int) -> None:
        """Neither a loss since the last logged point nor a weight may have gone wrong."""
        if step > self._logged_step:
            self._mean_loss(step)
        if not optim.parameters_are_finite(self.model):
            raise self._divergence(step, "a weight is not finite (the losses before were)")

    def _mean_loss(self, step: int) -> float:
        steps = step - self._logged_step
        loss = float(sum_over_ranks(self._loss_sum.clone()) / world_size()) / steps
        if not math.isfinite(loss):
            raise self._divergence(step, f"the mean loss of the last {steps} steps is {loss}")
        return loss

    def _divergence(self, step: int, what: str) -> DivergenceError:
        return DivergenceError(
            f"step {step - 1}: {what}. Likely causes: a learning rate that is too high (lr {self.settings.lr:g}), "
            f"precision {self.settings.precision}. {self.checkpoints.last_good()}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average, optimizer, and what is watched between logged points."""
        watch = {"loss_sum": self._loss_sum.cpu(), "logged_step": self._logged_step}
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        return {**parts, "watch": watch, "classes": list(self.loader.images.classes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._loss_sum.copy_(state["watch"]["loss_sum"])
        self._logged_step = state["watch"]["logged_step"]
