"""Requests to stop, and decisions that all ranks must take alike."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from dino.errors import Interrupted
from dino.log import logger
from dino.running.distributed import find_world, world_size

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""Slurm sends SIGTERM at pre-emption, submitit and ``--signal=USR2@90`` SIGUSR2 before the time limit."""


class StopRequest:
    """A signal's request to stop; a context manager that puts the old handlers back.

    A signal ends the body at once: before and after its steps a job has nothing to lose. It is only remembered in the
    body of `at_steps`, and where there are several ranks, which must stop alike.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._remember = False

    def __enter__(self) -> StopRequest:
        self._remember = find_world().world_size > 1
        if threading.current_thread() is threading.main_thread():  # elsewhere Python cannot set handlers
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_steps(self) -> Iterator[None]:
        """In the body a signal is remembered: who makes steps looks at the request between them, and saves."""
        before, self._remember = self._remember, True
        try:
            yield
        finally:
            self._remember = before

    def check(self) -> None:
        """Stop here if that was asked for.

        Raises:
            Interrupted: It was.
        """
        if self:
            raise Interrupted(f"stopped by {self.name}, nothing is lost; run the same command again to go on")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        if not self._remember:
            self.check()

    def __bool__(self) -> bool:
        return self.name is not None


class Agreement:
    """Lets all ranks stop, or save, at the same step.

    A signal reaches ranks at different moments, so a rank must not act on its own. One process decides at every step.
    Several exchange their wishes about once a second, at steps that the previous exchange fixed for all: rank 0 says
    how many steps a second takes. The exchange is of CPU numbers, so the device is not waited for.
    """

    def __init__(self) -> None:
        self._next_step = 0

    def decide(
        self, step: int, *, stop: bool, save: bool, steps_per_second: float = 1.0, at_once: bool = False
    ) -> tuple[bool, bool]:
        """Whether all ranks now stop, and save, before step ``step``.

        Args:
            step: Steps done, equal on all ranks.
            stop: This rank was asked to stop.
            save: This rank would like a checkpoint.
            steps_per_second: This rank's speed; rank 0's counts.
            at_once: Exchange now (on all ranks: the end of an epoch, of the run).
        """
        if world_size() == 1:
            return stop, save
        if step < self._next_step and not at_once:
            return False, False
        pace = steps_per_second if dist.get_rank() == 0 else 0.0
        wishes = torch.tensor([float(stop), float(save), pace], dtype=torch.float64)
        dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
        self._next_step = step + min(max(int(wishes[2]), 1), 100)
        if wishes[0] and not stop:
            logger.debug("another rank was asked to stop")
        return bool(wishes[0]), bool(wishes[1])
