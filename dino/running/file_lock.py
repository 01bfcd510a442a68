"""File locks that a killed process gives back by itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


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
