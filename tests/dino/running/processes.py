"""Child processes by fork: they have torch imported already, so that a test can afford many of them."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

can_fork = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs a safe fork")


def fork(body: Callable[[], int | None], log: Path) -> int:
    """Run ``body`` in a child, whose exit status it returns (1 for an exception, told in ``log``); gives the pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = body() or 0
    except BaseException:
        log.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def exit_status(pid: int, *, seconds: float = 120.0) -> int:
    """Wait for a child; minus the signal's number where a signal ended it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} did not end within {seconds} s")


def run_ranks(body: Callable[[int], int | None], folder: Path, *, world_size: int = 2) -> list[int]:
    """Run ``body(rank)`` in ``world_size`` processes that find each other as under torchrun; their exit statuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)

    def child(rank: int) -> Callable[[], int | None]:
        def start() -> int | None:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(world_size),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )
            return body(rank)

        return start

    pids = [fork(child(rank), folder / f"error-{rank}.txt") for rank in range(world_size)]
    statuses = [exit_status(pid) for pid in pids]
    for rank in range(world_size):
        error = folder / f"error-{rank}.txt"
        assert not error.exists(), error.read_text()
    return statuses
