"""The command's side of a warm start. Imports nothing heavy: it is all that a warm job pays for its own process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from dino.warm.messages import receive, send

FOLDER_VARIABLE = "DINO_WARM"
"""Environment variable with the folder of the servers' sockets; unset or empty: commands start cold."""

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def socket_path(folder: str | os.PathLike[str], program: str) -> Path:
    """Where the server of ``program`` (``dino``, ``workflow``) listens."""
    return Path(folder) / f"{program}.sock"


def run_warm(program: str, arguments: Sequence[str]) -> int | None:
    """Run ``program`` in a child of its warm process and return its exit status; None where it must start cold.

    A child that a signal ended ends this process by the same signal.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(socket_path(folder, program)))
    except OSError:  # no such server on this machine, or it has ended
        connection.close()
        return None
    with connection:
        return _run(connection, program, arguments)


def _run(connection: socket.socket, program: str, arguments: Sequence[str]) -> int | None:
    request = {
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE},
        "umask": _umask(),
    }
    pending: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        pending.append(number)
        if started:
            _flush_signals(connection, pending)

    started = False
    handlers = {
        name: signal.signal(name, pass_on)
        for name in (getattr(signal, name) for name in _PASSED_ON)
        if signal.getsignal(name) is not signal.SIG_IGN
    }
    try:
        send(connection, request, fds=[0, 1, 2])
        answer, _ = receive(connection)
        if "pid" in answer:
            started = True
            _flush_signals(connection, pending)
            answer, _ = receive(connection)
    except (EOFError, ConnectionError):
        print(
            f"{program}: the warm process that ran this job has ended (killed, or out of memory?); the same command "
            "again goes on, and with --config warm=off each job starts by itself",
            file=sys.stderr,
        )
        return 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if "status" not in answer:  # the server could not import the program: let this process say why
        return None
    status = int(answer["status"])
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _flush_signals(connection: socket.socket, pending: list[int]) -> None:
    with contextlib.suppress(ConnectionError):  # the job has ended; how is what the next message says
        while pending:
            connection.sendall(bytes([pending.pop(0)]))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
