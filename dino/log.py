"""One logger for the package, and progress that suits where it is shown."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger("dino")
T = TypeVar("T")


def set_up_logging(*, quiet: bool = False) -> None:
    """Send the package's messages to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


def track(items: Iterable[T], *, what: str, total: int, every_seconds: float = 10.0) -> Iterator[T]:
    """Yield ``items`` behind a progress bar on a terminal, or a plain line every ``every_seconds`` otherwise."""
    if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, description=what, total=total, console=Console(stderr=True), transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= every_seconds:
            logger.info("%s: %d of %d", what, done, total)
            last = now
        yield item
