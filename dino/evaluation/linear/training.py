"""The training of linear probes: epochs over crops of the training images, a look at the test images after each.

The state is kept in a file beside the output until the metrics are written: a training that was killed goes on from it
and, on a CPU with as many threads, ends with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dino.data.evaluation import EvalImages
from dino.errors import UserError
from dino.evaluation.linear.crops import CropPart, TrainCrops
from dino.evaluation.linear.features import JointFeature
from dino.evaluation.linear.probes import ProbeBank
from dino.evaluation.linear.recipe import ProbeSettings
from dino.log import track
from dino.running.checkpoint import CheckpointFile, RunIdentity
from dino.running.precision import autocast, full_precision_products
from dino.running.resumable import Resumable, Running

CHECKPOINT_MINUTES = 10.0
"""A kill within an epoch loses that much at most."""


class ProbeTraining(Resumable):
    """One training of all probes.

    Args:
        settings: Of the training.
        joint: The frozen backbone, in eval mode on the device.
        bank: The probes.
        crops: The training images.
        labels: (N,) class indices of the whole training split.
        held_out: (N,) bool, the images that trial probes do not learn from.
        test_features: (M, width) float32, on the CPU: without augmentation they are the same after each epoch.
        test_labels: (M,) class indices.
        checkpoints: The file that the state is kept in.
    """

    loader: TrainCrops

    def __init__(
        self,
        settings: ProbeSettings,
        joint: JointFeature,
        bank: ProbeBank,
        crops: TrainCrops,
        *,
        labels: Tensor,
        held_out: Tensor,
        test_features: Tensor,
        test_labels: Tensor,
        checkpoints: CheckpointFile,
    ) -> None:
        self.running = Running(run_dir=None, device=crops.device, checkpoint_minutes=CHECKPOINT_MINUTES)
        self.settings, self.joint, self.bank, self.loader = settings, joint, bank, crops
        self._labels, self._held_out = labels, held_out
        self._test = test_features, test_labels
        self.checkpoints = checkpoints
        self.identity = RunIdentity(
            run_id="linear probes", fingerprint=checkpoints.fingerprint, config={}, data_digest=None
        )
        self.steps_per_epoch = self.log_every = crops.batches
        self.total_steps = settings.epochs * crops.batches
        self.batch_size, self.seed = settings.batch_size, settings.seed
        self.scores: list[Tensor] = []
        """After each epoch (3, V, L) of the test images: `ProbeBank.score`, on the CPU."""
        self._losses = torch.zeros(len(bank.columns), bank.rates, device=crops.device)

    def take_step(self, step: int, batches: Iterator[CropPart], *, logs: bool) -> None:
        """Let all probes learn from the parts of one batch."""
        # Once an epoch, from 1 towards 0, which would be reached one epoch after the last.
        factor = 0.5 * (1.0 + math.cos(math.pi * (step // self.steps_per_epoch) / self.settings.epochs))
        features: list[Tensor] = []
        indices: list[Tensor] = []
        for part in batches:
            features.append(self._features(part.images))
            indices.append(part.indices)
            if part.ends_batch:
                break
        chosen = torch.cat(indices)
        targets, held_out = (
            each[chosen].to(self.loader.device, non_blocking=True) for each in (self._labels, self._held_out)
        )
        self._losses += self.bank.step(torch.cat(features), targets, held_out, factor=factor)

    def log(self, step: int) -> dict[str, float]:
        """The smallest mean loss of the epoch.

        Raises:
            UserError: Features are not finite.
        """
        loss = float(self._losses.min()) / self.steps_per_epoch
        if not math.isfinite(loss):
            way_out = "weights have diverged" if self.settings.precision == "fp32" else "use --precision fp32"
            raise UserError(f"the network's features of training crops are not finite numbers: {way_out}")
        self._losses.zero_()
        return {"loss": loss}

    def after_step(self, step: int) -> None:
        """After an epoch's last step, count the test images that each probe gets right."""
        if step % self.steps_per_epoch == 0:
            self.scores.append(self.bank.score(*self._test).cpu())

    def state_dict(self) -> dict[str, Any]:
        """The probes, the losses of the epoch so far and the scores of those before."""
        return {"probes": self.bank.state_dict(), "losses": self._losses, "scores": self.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.bank.load_state_dict(state["probes"])
        self._losses.copy_(state["losses"])
        self.scores = state["scores"]
        if len(self.scores) < state["step"] // self.steps_per_epoch:  # as was once saved: an epoch's steps, not its end
            self.log(state["step"])
            self.after_step(state["step"])

    def score_held_out(self, images: EvalImages) -> Tensor:
        """`ProbeBank.score` (3, V, L) of the trial probes on the held-out images, on the CPU."""
        shape = 3, len(self.bank.columns), self.bank.rates
        total = torch.zeros(shape, dtype=torch.float64, device=images.device)
        batches = track(images, what="held-out images", total=math.ceil(len(images) / images.batch_size))
        for batch in batches:
            total += self.bank.score(self._features(batch.images), batch.labels, trials=True)
        return total.cpu()

    def _features(self, images: Tensor) -> Tensor:
        with torch.no_grad(), full_precision_products(), autocast(self.settings.precision, images.device):
            return self.joint(images).float()
