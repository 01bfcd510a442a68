"""The training of linear probes: epochs over crops of the training images, a look at the test images after each.

The state is kept in a file beside the output until the metrics are written: a training that was killed goes on from it
and, on a CPU with as many threads, ends with the same bits.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from dino.data.evaluation import EvalImages
from dino.errors import Interrupted, UserError
from dino.evaluation.linear.crops import TrainCrops
from dino.evaluation.linear.features import JointFeature
from dino.evaluation.linear.probes import ProbeBank
from dino.evaluation.linear.recipe import ProbeSettings
from dino.log import logger, track
from dino.running.checkpoint import read_checkpoint, write_checkpoint
from dino.running.precision import autocast, full_precision_products
from dino.running.progress import Progress
from dino.running.signals import StopRequest

SAVE_SHARE = 0.05
"""Largest part of the time that goes into saving at the ends of epochs."""
SAVE_SECONDS = 10.0
"""Least time between two of these."""
LONGEST_SECONDS = 600.0
"""Most time that is lost by a kill: within an epoch the state is saved that often."""


class ProbeTraining:
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
        partial: The file that the state is kept in.
        fingerprint: Another's state is not taken up.
    """

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
        partial: Path,
        fingerprint: str,
    ) -> None:
        self.settings, self.joint, self.bank, self.crops = settings, joint, bank, crops
        self._labels, self._held_out = labels, held_out
        self._test = test_features, test_labels
        self._partial, self._fingerprint = partial, fingerprint
        self.step = 0
        """Batches done, over all epochs."""
        self.scores: list[Tensor] = []
        """After each epoch (3, V, L) of the test images: `ProbeBank.score`, on the CPU."""
        shape = len(bank.columns), bank.rates
        self._losses = torch.zeros(shape, device=crops.device)
        self._earlier_seconds = self._save_cost = 0.0
        self._began = self._saved_at = time.monotonic()

    @property
    def total_steps(self) -> int:
        """Batches of the training."""
        return self.settings.epochs * self.crops.batches

    def seconds(self) -> float:
        """Spent so far, over all processes."""
        return self._earlier_seconds + time.monotonic() - self._began

    def run(self, stop: StopRequest) -> None:
        """Train to the end, from where an earlier process was.

        Raises:
            Interrupted: ``stop`` was requested; the state has been saved.
            UserError: Features are not finite.
        """
        self._resume()
        with Progress("linear probes", total=self.total_steps, start=self.step, enabled=True) as progress:
            while len(self.scores) < self.settings.epochs:
                self._train_epoch(progress, stop)
                self._end_epoch(progress)
                self._pause_if_asked(stop, epoch_ended=True)

    def score_held_out(self, images: EvalImages) -> Tensor:
        """`ProbeBank.score` (3, V, L) of the trial probes on the held-out images, on the CPU."""
        shape = 3, len(self.bank.columns), self.bank.rates
        total = torch.zeros(shape, dtype=torch.float64, device=images.device)
        batches = track(images, what="held-out images", total=math.ceil(len(images) / images.batch_size))
        for batch in batches:
            total += self.bank.score(self._features(batch.images), batch.labels, trials=True)
        return total.cpu()

    def forget(self) -> None:
        """The result is written: the state is not needed any more."""
        self._partial.unlink(missing_ok=True)

    def _train_epoch(self, progress: Progress, stop: StopRequest) -> None:
        epoch = len(self.scores)
        # Once an epoch, from 1 towards 0, which would be reached one epoch after the last.
        factor = 0.5 * (1.0 + math.cos(math.pi * epoch / self.settings.epochs))
        features: list[Tensor] = []
        indices: list[Tensor] = []
        for part in self.crops.iterate(epoch, self.step - epoch * self.crops.batches):
            features.append(self._features(part.images))
            indices.append(part.indices)
            if not part.ends_batch:
                continue
            chosen = torch.cat(indices)
            targets, held_out = (
                each[chosen].to(self.crops.device, non_blocking=True) for each in (self._labels, self._held_out)
            )
            self._losses += self.bank.step(torch.cat(features), targets, held_out, factor=factor)
            features, indices = [], []
            self.step += 1
            progress.advance(self.step)
            self._pause_if_asked(stop, epoch_ended=False)

    def _features(self, images: Tensor) -> Tensor:
        with torch.no_grad(), full_precision_products(), autocast(self.settings.precision, images.device):
            return self.joint(images).float()

    def _end_epoch(self, progress: Progress) -> None:
        loss = float(self._losses.min()) / self.crops.batches
        if not math.isfinite(loss):
            way_out = "weights have diverged" if self.settings.precision == "fp32" else "use --precision fp32"
            raise UserError(f"the network's features of training crops are not finite numbers: {way_out}")
        progress.show_loss(loss)
        self._losses.zero_()
        self.scores.append(self.bank.score(*self._test).cpu())

    # --- state --------------------------------------------------------------------------------------------------------

    def _pause_if_asked(self, stop: StopRequest, *, epoch_ended: bool) -> None:
        since = time.monotonic() - self._saved_at
        due = since > max(SAVE_SECONDS, self._save_cost / SAVE_SHARE) if epoch_ended else since > LONGEST_SECONDS
        if due or stop:
            self._save()
        if stop:
            raise Interrupted(f"asked to stop ({stop.name}); saved after step {self.step} of {self.total_steps}")

    def _save(self) -> None:
        started = time.monotonic()
        state = {
            "fingerprint": self._fingerprint,
            "probes": self.bank.state_dict(),
            "losses": self._losses,
            "step": self.step,
            "scores": self.scores,
            "threads": torch.get_num_threads(),
            "elapsed_seconds": self.seconds(),
        }
        write_checkpoint(self._partial, state)
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - started

    def _resume(self) -> None:
        if not self._partial.exists():
            return
        try:
            state = read_checkpoint(self._partial)
        except UserError as error:
            logger.warning("%s; starting anew", error)
            return
        if state["fingerprint"] != self._fingerprint:
            logger.info("%s is of other settings, weights or images; starting anew", self._partial)
            return
        self.bank.load_state_dict(state["probes"])
        self._losses.copy_(state["losses"])
        self.step, self.scores = state["step"], state["scores"]
        self._earlier_seconds = state["elapsed_seconds"]
        if state["threads"] != torch.get_num_threads():
            logger.warning("going on with another number of threads: a valid training, but not bit for bit")
        logger.info("resuming after step %d of %d", self.step, self.total_steps)
