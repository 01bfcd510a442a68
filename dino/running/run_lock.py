"""One process at a time in a run directory.

A scheduler or a workflow that was killed may leave a training behind that goes on; the same run started again must wait
for it rather than write the same checkpoints and journal beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dino.errors import Interrupted
from dino.log import logger

LOCK_NAME = ".lock"
POLL_SECONDS = 1.0


@contextlib.contextmanager
def sole_owner(run_dir: Path, *, stop: object = False) -> Iterator[None]:
    """Hold ``run_dir`` while the body runs; first wait for whoever holds it. A killed process gives it back.

    Args:
        run_dir: Made if it is not there.
        stop: Looked at while waiting; once true, the wait ends.

    Raises:
        Interrupted: ``stop`` became true before the directory was free.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _wait(descriptor, run_dir, stop)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, run_dir: Path, stop: object) -> None:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            # Some network file systems have no locks; training without one is what there was before.
            logger.warning("%s cannot be locked (%s): do not start this run twice", run_dir, error.strerror)
            return
        if stop:
            raise Interrupted(f"stopped while waiting for another process that trains in {run_dir}")
        if not told:
            logger.info("another process trains in %s: waiting for it to end", run_dir)
            told = True
        time.sleep(POLL_SECONDS)
