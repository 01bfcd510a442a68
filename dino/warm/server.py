"""The warm process: ``python -m dino.warm.server PROGRAM FD``, started by the workflow for jobs of this machine.

FD is a socket that listens already. The process imports when the first job asks, so that a workflow without jobs pays
nothing. It runs no tensor operation and starts no thread, which is what makes its forks safe. Its standard input is a
pipe whose other end the workflow holds: when that closes, however the workflow ended, it takes no more jobs, waits for
those that run, and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from dino.warm.messages import receive, send


class Program(NamedTuple):
    """A command that can start warm."""

    main: str
    """Module of its ``main(arguments) -> exit status``."""
    preload: tuple[str, ...]
    """Modules that most of its jobs import."""


PROGRAMS = {
    "dino": Program(
        main="dino.cli",
        preload=(
            "torch",
            "timm.models.vision_transformer",
            "PIL.Image",
            "dino.config",
            "dino.training.pretraining",
            "dino.evaluation.features.extraction",
            "dino.evaluation.runtime",
            "dino.evaluation.knn.protocol",
            "dino.data",
        ),
    ),
    "workflow": Program(
        main="workflow.__main__",
        preload=("pandas", "seaborn", "workflow.results.figures.figures", "workflow.results.summary"),
    ),
}

REQUEST_SECONDS = 10.0
"""How long a client may take to say what it wants."""


@dataclass
class Server:
    """The loop, its sockets and the jobs that run."""

    program: Program
    listener: socket.socket
    parent: int
    """The file descriptor whose end means that the workflow has ended."""
    jobs: dict[int, socket.socket] = field(default_factory=dict)
    """Connection of each running child, by process id."""
    loaded: bool | None = None
    """Whether the imports succeeded; None before the first job."""

    def serve(self) -> dict[str, Any] | None:
        """Serve until the workflow ends and return None; in a child, return at once with the request to run."""
        self.selector = selectors.DefaultSelector()
        self.ended, ended_writer = os.pipe()
        os.set_blocking(self.ended, False)
        os.set_blocking(ended_writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ended_writer, warn_on_full_buffer=False)
        self.own_files = [self.ended, ended_writer]
        for source in (self.listener, self.parent, self.ended):
            self.selector.register(source, selectors.EVENT_READ)
        accepting = True
        while accepting or self.jobs:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    if request := self._accept():
                        return request
                elif key.fileobj == self.parent:
                    if not os.read(self.parent, 4096):
                        accepting = False
                        self._close_door()
                elif key.fileobj == self.ended:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.ended, 4096)
                else:
                    self._hear(key.fileobj)
            self._reap()
        return None

    def _close_door(self) -> None:
        self.selector.unregister(self.parent)
        self.selector.unregister(self.listener)
        self.listener.close()

    def _accept(self) -> dict[str, Any] | None:
        """Fork a child for the next client. Returns its request in the child, None here."""
        connection, _ = self.listener.accept()
        connection.settimeout(REQUEST_SECONDS)
        try:
            request, files = receive(connection, fds=3)
        except (EOFError, OSError, ValueError):  # a client that died, or something else that found the socket
            connection.close()
            return None
        if self._load():
            pid = os.fork()
            if pid == 0:
                connection.close()
                return self._become_job(request, files)
            self.jobs[pid] = connection
            self.selector.register(connection, selectors.EVENT_READ, pid)
            _tell(connection, {"pid": pid})
        else:
            _tell(connection, {"cold": True})
            connection.close()
        for file in files:
            os.close(file)
        return None

    def _load(self) -> bool:
        """Import what the jobs share, once. A job starts cold, and says why itself, where that fails."""
        if self.loaded is None:
            try:
                for module in (self.program.main, *self.program.preload):
                    importlib.import_module(module)
                self.loaded = True
            except Exception:
                traceback.print_exc()
                self.loaded = False
            gc.collect()
            gc.freeze()  # a collection in a child would write to, and so copy, every page of what is shared
        return self.loaded

    def _become_job(self, request: dict[str, Any], files: list[int]) -> dict[str, Any]:
        """In the child: let go of all that is the server's and take what the client handed over."""
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.selector.close()
        self.listener.close()
        for connection in self.jobs.values():
            connection.close()
        for file in (*self.own_files, self.parent):
            os.close(file)
        os.setpgid(0, 0)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["folder"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        return request

    def _hear(self, connection: Any) -> None:
        """Pass a client's signals on to its child; end the child of a client that was killed."""
        pid = next((pid for pid, of_job in self.jobs.items() if of_job is connection), None)
        if pid is None:
            return
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        if not numbers:
            self.selector.unregister(connection)
        for number in numbers or (signal.SIGKILL,):
            os.kill(pid, number)  # not reaped yet, so the id is still the child's

    def _reap(self) -> None:
        while self.jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self.jobs.pop(pid)
            with contextlib.suppress(KeyError):
                self.selector.unregister(connection)
            _tell(connection, {"status": os.waitstatus_to_exitcode(status)})
            connection.close()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, where it can (Linux)."""
    if sys.platform == "linux":
        parent_ended = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(parent_ended, signal.SIGKILL)


def _tell(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the client was killed; `_hear` ends its child
        send(connection, message)


def _limit_threads() -> None:
    """Give this job the threads of its environment, which libraries read when they were imported: in the server."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(threads), user_api="blas")  # NumPy's and SciPy's
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(int(threads))


def main() -> NoReturn:
    """Serve the program of the command line; in a child, be one job of it."""
    name, listening = sys.argv[1:]
    program = PROGRAMS[name]
    with socket.socket(fileno=int(listening)) as listener:
        request = Server(program, listener, parent=sys.stdin.fileno()).serve()
    if request is None:
        sys.exit(0)
    sys.argv = [name, *request["arguments"]]
    _limit_threads()
    sys.exit(sys.modules[program.main].main(request["arguments"]))


if __name__ == "__main__":
    main()
