"""The warm processes of one call of snakemake: its jobs on this machine start in them (`dino.warm`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from dino.warm.client import FOLDER_VARIABLE, socket_path
from dino.warm.server import PROGRAMS

LONGEST_PATH = 100
"""Bytes in a Unix socket's path, a few below what systems allow (104 to 108)."""
END_SECONDS = 10


def warm_starts_work() -> bool:
    """Whether a process may fork here after it has imported torch: on macOS the system libraries forbid it."""
    return sys.platform == "linux"


class WarmProcesses:
    """One warm process for each program, and the folder of their sockets."""

    def __init__(self, folder: Path, processes: list[subprocess.Popen[bytes]]):
        self.folder = folder
        self.processes = processes

    @classmethod
    def start(cls) -> WarmProcesses:
        """Start them and name them to the jobs, which inherit this process's environment.

        The sockets are bound here and handed down, so that no job can come before they listen.
        """
        folder = _make_folder()
        processes = []
        for program in PROGRAMS:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(socket_path(folder, program)))
                listener.listen(1024)
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "dino.warm.server", program, str(listener.fileno())],
                        stdin=subprocess.PIPE,
                        pass_fds=[listener.fileno()],
                        start_new_session=True,  # Ctrl-C reaches the jobs through their clients, once
                    )
                )
        os.environ[FOLDER_VARIABLE] = str(folder)
        return cls(folder, processes)

    def stop(self) -> None:
        """Let them end. One whose job has not ended yet, after an interrupt, waits for it and ends then."""
        os.environ.pop(FOLDER_VARIABLE, None)
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


def _make_folder() -> Path:
    """A folder of this user's alone whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="dino-"))
    if len(os.fsencode(socket_path(folder, max(PROGRAMS, key=len)))) > LONGEST_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="dino-", dir="/tmp"))
    return folder
