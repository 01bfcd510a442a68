"""Learning rate, weight decay and teacher momentum of every step (paper.md, A.6, A.5).

All are whole tables in float64, made once: a step reads one number, and a resumed run reads the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dino.config import RunConfig


@dataclass(frozen=True)
class Schedules:
    """Tables of T entries; entry i belongs to optimizer step i, counted from 0."""

    lr: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    teacher_momentum: NDArray[np.float64]
    steps_per_epoch: int
    frozen_steps: int
    """Steps at the start during which the prototypes are kept as they are."""

    @property
    def total_steps(self) -> int:
        """T."""
        return len(self.lr)

    def epoch_of(self, step: int) -> int:
        """The epoch that a step lies in, counted from 0."""
        return step // self.steps_per_epoch


def cosine_schedule(start: float, end: float, *, steps: int, warmup_steps: int = 0) -> NDArray[np.float64]:
    """``linspace(0, start, W)``, then a half cosine from ``start`` towards ``end`` over the other T - W steps.

    The last warm-up step and the first cosine step both have the value ``start``; ``end`` itself would be reached one
    step after the last.
    """
    warmup = np.linspace(0.0, start, warmup_steps)
    remaining = steps - warmup_steps
    phase = np.arange(remaining) / max(remaining, 1)
    return np.concatenate([warmup, end + 0.5 * (start - end) * (1.0 + np.cos(np.pi * phase))])


def epochs_to_steps(epochs: float, steps_per_epoch: int) -> int:
    """A duration in epochs as whole optimizer steps; whole epochs are exact."""
    return round(epochs * steps_per_epoch)


def build_schedules(config: RunConfig, steps_per_epoch: int) -> Schedules:
    """The tables of a run; the peak learning rate follows the linear rule, base_lr * batch / 256."""
    total = epochs_to_steps(config.epochs, steps_per_epoch)
    if config.epochs > 0:
        total = max(total, 1)
    warmup = min(epochs_to_steps(config.warmup_epochs, steps_per_epoch), total)
    peak = config.base_lr * config.batch_size / 256.0
    return Schedules(
        lr=cosine_schedule(peak, config.min_lr, steps=total, warmup_steps=warmup),
        weight_decay=cosine_schedule(config.weight_decay, config.weight_decay_end, steps=total),
        teacher_momentum=cosine_schedule(config.teacher_momentum, 1.0, steps=total),
        steps_per_epoch=steps_per_epoch,
        frozen_steps=epochs_to_steps(config.freeze_last_layer_epochs, steps_per_epoch),
    )
