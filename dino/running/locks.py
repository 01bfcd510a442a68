"""File locks, which a killed process gives back by itself, and the lock of a run directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dino.errors import Interrupted, UserError
from dino.log import logger

RUN_LOCK = ".lock"
POLL_SECONDS = 1.0


class Held(Exception):
    """Another process holds the lock, and nobody wanted to wait for it."""


@contextlib.contextmanager
def file_lock(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold ``path`` exclusively while the body runs. The file stays behind, empty.

    Args:
        path: The file; made where it is missing.
        wait: For another holder to let go.

    Raises:
        Held: There is another holder, and ``wait`` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Held(path) from None
        yield
    finally:
        os.close(descriptor)  # and the lock with it


@contextlib.contextmanager
def sole_owner(run_dir: Path, *, stop: object = False) -> Iterator[None]:
    """Hold ``run_dir`` while the body runs; first wait for whoever holds it.

    A scheduler or a workflow that was killed may leave a training behind that goes on; the same run started again must
    wait for it rather than write the same checkpoints and journal beside it.

    Args:
        run_dir: Made if it is not there.
        stop: Looked at while waiting; once true, the wait ends.

    Raises:
        Interrupted: ``stop`` became true before the directory was free.
        UserError: The directory cannot be made or written.
    """
    told = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(file_lock(run_dir / RUN_LOCK, wait=False))
                break
            except Held:
                pass
            except (PermissionError, FileExistsError, NotADirectoryError) as error:
                raise UserError(f"cannot write {run_dir}: {error.strerror}; choose a folder you may write to") from None
            except OSError as error:
                # Some network file systems have no locks; training without one is what there was before.
                logger.warning("%s cannot be locked (%s): do not start this run twice", run_dir, error.strerror)
                break
            if stop:
                raise Interrupted(f"stopped while waiting for another process that trains in {run_dir}")
            if not told:
                logger.info("another process trains in %s: waiting for it to end", run_dir)
                told = True
            time.sleep(POLL_SECONDS)
        yield
