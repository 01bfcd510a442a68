"""What is watched while a run goes: losses that stop being finite, and collapse (paper Fig. 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dino.config import RunConfig
from dino.errors import DivergenceError
from dino.running.distributed import sum_over_ranks, world_size

CONSTANT_STD = 0.05
"""A spread of the teacher's outputs below this is collapse: 1 fills the sphere, 0.05 is a mean cosine of 0.9975 between
two images' outputs. Measured: 0.56 for a random ViT-S/16 on photographs; in small runs 0.15 to 1 where something is
learnt, 0.0001 to 0.02 where nothing is."""
UNIFORM_SHARE = 0.99
"""Teacher entropy above this share of ln K: the constant output is the uniform one."""
ONE_HOT_SHARE = 0.01
"""Teacher entropy below this share of ln K: the constant output is one prototype."""
PATIENCE = 3
"""Logged points in a row before collapse is named; the start of a run may pass such a point."""


class LossHistory:
    """The losses since the last logged point, kept on the device so that no step waits for them."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._values = torch.zeros(capacity, device=device)
        self._count = 0

    def add(self, loss: Tensor) -> None:
        """Append one loss (a scalar on the device)."""
        self._values[self._count] = loss
        self._count += 1

    def values(self) -> list[float]:
        """The mean over ranks of each; waits for the device. A value not finite on any rank is not finite on all."""
        mean = sum_over_ranks(self._values[: self._count].clone()) / world_size()
        return mean.tolist()

    def clear(self) -> None:
        """Start the next interval."""
        self._count = 0

    def state(self) -> Tensor:
        """This rank's losses so far, (n,) float32 on the CPU: a checkpoint may lie between two logged points."""
        return self._values[: self._count].detach().cpu().clone()

    def restore(self, state: Tensor) -> None:
        """Continue from `state`."""
        self._count = min(len(state), len(self._values))
        self._values[: self._count] = state[len(state) - self._count :].to(self._values)


def check_finite(losses: list[float], *, first_step: int, config: RunConfig, last_good: str) -> None:
    """Stop a run that has diverged.

    Args:
        losses: Of consecutive steps.
        first_step: The step of the first of them, counted from 0.
        config: Of the run; the causes named are the ones its settings make likely.
        last_good: Where the run can be taken up again, as a phrase.

    Raises:
        DivergenceError: A loss is NaN or infinite.
    """
    for step, loss in enumerate(losses, start=first_step):
        if not math.isfinite(loss):
            raise DivergenceError(divergence_message(f"the loss is {loss}", step, config, last_good))


def divergence_message(what: str, step: int, config: RunConfig, last_good: str) -> str:
    """Step, quantity, likely causes (paper.md, E.1: #58, #97, #263, #43) and what is left."""
    causes = []
    if config.precision == "fp16":
        causes.append("precision fp16 (all released models were trained with it off; try bf16 or fp32)")
    causes.append(f"a learning rate that is too high (base_lr {config.base_lr:g}, batch {config.batch_size})")
    if config.objective == "dino" and config.loss == "ce" and config.centering in ("center", "none"):
        start = config.teacher_temp if config.warmup_teacher_temp is None else config.warmup_teacher_temp
        causes.append(f"the teacher temperature (starts at {start:g}; lower it)")
    clip = f"clip_grad {config.clip_grad:g}; try 0.3" if config.clip_grad else "clip_grad is off; try 3.0 or 0.3"
    causes.append(f"gradients not clipped enough ({clip})")
    return f"step {step}: {what}. Likely causes: {'; '.join(causes)}. {last_good}"


class CollapseWatch:
    """Names a collapse: the teacher gives the same output whatever the image (paper Sec. 5.3, Fig. 7).

    Any constant output minimises the loss without learning. It is seen by the spread of the outputs over the batch,
    which every objective has; where outputs are distributions, their entropy says of which kind it is: ``uniform``
    (ln K: what centring alone leads to) or ``one-hot`` (0: sharpening alone), else ``constant``. The entropy by itself
    would not do: a teacher may be nearly uniform for every image, in another way for each, and be learnt from (the
    previous epoch's, Fig. 6), and one-hot targets (teacher_temp 0) have entropy 0 by construction.
    """

    def __init__(self, config: RunConfig) -> None:
        self._scale = math.log(config.out_dim)
        self.kind: str | None = None
        self.step: int | None = None
        self._candidate: str | None = None
        self._seen = 0

    def observe(self, step: int, stats: Mapping[str, float]) -> str | None:
        """Take a logged point.

        Args:
            step: Steps made.
            stats: The objective's; ``output_std`` and ``teacher_entropy`` are looked at.

        Returns:
            A sentence about a collapse that is newly recognised, else None.
        """
        kind = self._classify(stats)
        self._seen = self._seen + 1 if kind == self._candidate else 1
        self._candidate = kind
        if kind is None:
            self.kind = self.step = None
        elif self._seen >= PATIENCE and self.kind != kind:
            self.kind, self.step = kind, step
            return self._describe(kind, stats)
        return None

    def _describe(self, kind: str, stats: Mapping[str, float]) -> str:
        entropy = ""
        if "teacher_entropy" in stats:
            entropy = f", the teacher's entropy is {stats['teacher_entropy']:.4f} (ln K = {self._scale:.4f})"
        article = "a" if kind == "constant" else "the"
        return f"collapse to {article} {kind} output: the spread over images is {stats['output_std']:.4f}{entropy}"

    def _classify(self, stats: Mapping[str, float]) -> str | None:
        if stats.get("output_std", 1.0) >= CONSTANT_STD:
            return None
        share = stats.get("teacher_entropy", 0.5 * self._scale) / self._scale
        return "uniform" if share > UNIFORM_SHARE else "one-hot" if share < ONE_HOT_SHARE else "constant"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting."""
        return {"kind": self.kind, "step": self.step, "candidate": self._candidate, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.kind, self.step = state["kind"], state["step"]
        self._candidate, self._seen = state["candidate"], state["seen"]
