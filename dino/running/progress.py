"""Progress of a training for people: a bar on a terminal, plain lines otherwise; and ``status.json`` for programs."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from pathlib import Path
from typing import Any

from dino.files import write_json
from dino.log import logger

STATUS_NAME = "status.json"
PLAIN_SECONDS = 10.0
"""Shortest time between two plain lines."""


class Progress:
    """Shows step, loss and time left; on rank 0 only. A context manager."""

    def __init__(self, what: str, *, total: int, start: int, enabled: bool) -> None:
        self._total, self._start, self._done = total, start, start
        self._loss = ""
        self._began = self._last = time.monotonic()
        self._enabled = enabled and logger.isEnabledFor(logging.INFO)
        self._bar: Any = None
        if self._enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, completed=start, loss="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int) -> None:
        """``done`` steps of the run are made."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._enabled and self._loss and time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            logger.info("step %d of %d%s, %s left", done, self._total, self._loss, self._left())

    def show_loss(self, loss: float) -> None:
        """The newest logged loss."""
        self._loss = f", loss {loss:.4f}"
        if self._bar is not None:
            self._bar.update(self._task, loss=f"loss {loss:.4f}")

    def _left(self) -> str:
        rate = (time.monotonic() - self._began) / max(self._done - self._start, 1)
        return str(datetime.timedelta(seconds=round(rate * (self._total - self._done))))


class StatusFile:
    """``status.json`` of a run directory: what the run is doing, for whoever looks from outside; None for no file."""

    def __init__(self, run_dir: Path | None) -> None:
        self._path = run_dir / STATUS_NAME if run_dir else None
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._collapse: tuple[str | None, int | None] = (None, None)
        self._written = 0.0

    def write(
        self,
        status: str,
        *,
        step: int,
        seconds: float,
        message: str = "",
        collapse: tuple[str | None, int | None] = (None, None),
        at_least_seconds_apart: float = 0.0,
    ) -> None:
        """Write the file (atomically), unless the last writing was less than so many seconds ago.

        Args:
            status: ``running``, ``finished``, ``interrupted`` or ``failed``.
            step: Optimizer steps done.
            seconds: Spent on the run so far, over all its processes.
            message: For people.
            collapse: Its kind and since which step; news of it is written at once.
            at_least_seconds_apart: Makes frequent calls cheap.
        """
        recent = time.monotonic() - self._written < at_least_seconds_apart
        if self._path is None or (recent and collapse == self._collapse):
            return
        self._written, self._collapse = time.monotonic(), collapse
        kind, at = collapse
        write_json(
            self._path,
            {
                "status": status,
                "step": step,
                "message": message,
                "collapse": kind,
                "collapse_step": at,
                "started": self._started,
                "seconds": round(seconds, 1),
            },
        )
