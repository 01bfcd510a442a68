"""One optimizer step, in the order of paper.md, A.6."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dino.config import RunConfig
from dino.objectives.factory import build_objective
from dino.running.distributed import World, average_gradients, has_batch_norm
from dino.running.precision import autocast, build_scaler
from dino.training import optim
from dino.training.schedules import Schedules
from dino.training.sync_batch_norm import synchronise_batch_norm
from dino.training.teacher import build_teacher


class TrainStep:
    """Everything that changes from step to step, and the step.

    ``student`` and ``teacher`` (`Network`s: views in, outputs out) stay plain modules, so that their state dicts have
    no prefixes; what runs the student's forward may be a compiled or distributed wrapper around it.
    """

    def __init__(
        self,
        config: RunConfig,
        student: nn.Module,
        teacher: nn.Module,
        schedules: Schedules,
        *,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        world = world or World()
        self.config, self.schedules, self.device = config, schedules, device
        if world.world_size > 1 and has_batch_norm(student):
            student, teacher = synchronise_batch_norm(student, device), synchronise_batch_norm(teacher, device)
        self.student = student.to(device).train()
        self.teacher = teacher.to(device).train()
        self.teacher_rule = build_teacher(config, self.student, self.teacher)
        self.teacher_rule.start()
        self.objective = build_objective(config).to(device)
        self.optimizer = optim.build_optimizer(self.student, config.optimizer)
        self.scaler = build_scaler(config.precision, device)
        if config.compile:
            self.student.compile()
            self.teacher.compile()
        self._parts: dict[str, Any] = {
            "student": self.student,
            "teacher": self.teacher,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "objective": self.objective,
            "teacher_state": self.teacher_rule,
        }
        self._parallel = average_gradients(self.student, device) if world.world_size > 1 else None

    def state_dict(self) -> dict[str, Any]:
        """The state of each part, under a checkpoint's keys (docs/architecture.md)."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    def __call__(
        self, step: int, batches: Iterator[Sequence[Tensor]], *, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take ``accumulate_steps`` micro-batches and move student, teacher and what the objective keeps once.

        Args:
            step: Counted from 0; picks the schedules' entries.
            batches: Yields micro-batches: a list of view groups, each (views * B, 3, H, W), view-major.
            with_stats: Also return the objective's statistics and ``grad_norm`` (before clipping).

        Returns:
            The loss averaged over the micro-batches, and the statistics; scalars that stay on the device.
        """
        config, schedules = self.config, self.schedules
        epoch, parts = schedules.epoch_of(step), config.accumulate_steps
        optim.set_hyperparameters(self.optimizer, lr=schedules.lr[step], weight_decay=schedules.weight_decay[step])
        total = torch.zeros((), device=self.device)
        stats: dict[str, Tensor] = {}
        for part in range(parts):
            loss, part_stats = self._forward_backward(next(batches), epoch, last=part == parts - 1, stats=with_stats)
            total += loss
            for name, value in part_stats.items():
                stats[name] = stats[name] + value / parts if name in stats else value / parts
        self.objective.step()

        self.scaler.unscale_(self.optimizer)
        if with_stats:
            stats["grad_norm"] = optim.gradient_norm(self.student)
        optim.clip_gradients(self.student, config.clip_grad)
        if step < schedules.frozen_steps:
            optim.drop_last_layer_gradients(self.student)
        self.teacher_rule.before_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.teacher_rule.after_step(
            momentum=float(schedules.teacher_momentum[step]), ends_epoch=(step + 1) % schedules.steps_per_epoch == 0
        )
        # Freed now, gradients do not stand beside the next forward's activations.
        self.optimizer.zero_grad(set_to_none=True)
        return total, stats

    def _forward_backward(
        self, views: Sequence[Tensor], epoch: int, *, last: bool, stats: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch; gradients are exchanged between ranks after the last one only."""
        parts = self.config.accumulate_steps
        hold = contextlib.nullcontext() if last or self._parallel is None else self._parallel.no_sync()
        with hold:
            with autocast(self.config.precision, self.device):
                with torch.no_grad():
                    targets = self.teacher([self._globals(views)])
                outputs = (self._parallel or self.student)(list(views))
            loss, part_stats = self.objective(outputs, targets, epoch, with_stats=stats)
            del outputs, targets
            loss = loss / parts
            self.scaler.scale(loss).backward()
        return loss.detach(), part_stats

    def _globals(self, views: Sequence[Tensor]) -> Tensor:
        """The two global views, (2 * B, 3, H, W); they come first, in the first group."""
        batch = sum(len(group) for group in views) // (2 + self.config.num_local_crops)
        return views[0][: 2 * batch]
