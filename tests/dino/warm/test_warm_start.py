"""Warm starts: a job in a forked child is to its caller what the same command would be in its own process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dino.warm.client import FOLDER_VARIABLE, run_warm, socket_path

PROGRAM = """
import os, signal, sys, time

def main(arguments):
    what, *rest = arguments
    if what == "tell":
        print(os.getcwd(), os.environ.get("MINE"), *sys.argv, sys.stdin.read().strip(), sep="|")
        print("to the error stream", file=sys.stderr)
        return int(rest[0])
    if what == "wait":
        received = []
        signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
        print("ready", os.getpid(), flush=True)
        while not received:
            time.sleep(0.01)
        return 75
    if what == "die":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "raise":
        raise RuntimeError("out of ideas")
    if what == "threads":
        import torch
        print(torch.get_num_threads())
        return 0
"""

SERVER = """
import sys
from dino.warm import server
server.PROGRAMS["tried"] = server.Program(main="tried_program", preload=tuple(sys.argv.pop().split()))
server.main()
"""

CLIENT = """
import sys
from dino.warm.client import run_warm
status = run_warm("tried", sys.argv[1:])
print("cold") if status is None else sys.exit(status)
"""


class Warm:
    """A server of the program above, and commands that find it."""

    def __init__(self, folder: Path, preload: str = "json"):
        self.folder = folder
        (folder / "tried_program.py").write_text(PROGRAM)
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(socket_path(folder, "tried")))
            listener.listen()
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER, "tried", str(listener.fileno()), preload],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                env=self.environment,
                start_new_session=True,
                stderr=subprocess.PIPE,
                text=True,
            )

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        environment = {**self.environment, FOLDER_VARIABLE: str(self.folder), "MINE": "of the client"}
        settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, "-c", CLIENT, *arguments], **{**settings, "env": environment, **options}
        )

    def end(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.close()
        return self.server.wait(timeout=20)


@pytest.fixture
def warm(tmp_path) -> Iterator[Warm]:
    server = Warm(tmp_path)
    yield server
    server.server.kill()
    server.server.wait()


def wait_for_end(pid: int, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.02)


def test_job_has_the_folder_environment_streams_and_arguments_of_its_command(warm, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out, error = warm.start("tell", "3", cwd=elsewhere).communicate("through the pipe\n", timeout=20)
    assert out == f"{elsewhere}|of the client|tried|tell|3|through the pipe\n"
    assert error == "to the error stream\n"


@pytest.mark.parametrize(("arguments", "status"), [("tell 0", 0), ("tell 75", 75), ("die", -signal.SIGTERM)])
def test_command_ends_as_its_job_ended(warm, arguments, status):
    command = warm.start(*arguments.split())
    command.communicate(timeout=20)
    assert command.returncode == status


def test_exception_of_a_job_is_shown_and_harms_no_other_job(warm):
    _, error = warm.start("raise").communicate(timeout=20)
    assert "out of ideas" in error
    assert warm.start("tell", "0").communicate("", timeout=20)[0]


def test_signal_reaches_the_job(warm):
    command = warm.start("wait")
    assert command.stdout.readline().startswith("ready")
    command.send_signal(signal.SIGUSR2)
    assert command.wait(timeout=20) == 75


def test_job_of_a_killed_command_is_killed(warm):
    command = warm.start("wait")
    pid = int(command.stdout.readline().split()[1])
    command.kill()
    wait_for_end(pid)


def test_jobs_end_with_a_killed_server_and_the_command_says_so(warm):
    command = warm.start("wait")
    pid = int(command.stdout.readline().split()[1])
    warm.server.kill()
    warm.server.wait()
    wait_for_end(pid)
    _, error = command.communicate(timeout=20)
    assert command.returncode == 1
    assert "warm process that ran this job has ended" in error
    assert "warm=off" in error


def test_server_whose_workflow_has_ended_finishes_its_jobs_and_takes_no_more(warm):
    command = warm.start("wait")
    command.stdout.readline()
    warm.server.stdin.close()
    deadline = time.monotonic() + 10
    while warm.start("tell", "0").communicate("", timeout=20)[0] != "cold\n":
        assert time.monotonic() < deadline
    command.send_signal(signal.SIGUSR2)
    assert command.wait(timeout=20) == 75
    assert warm.server.wait(timeout=20) == 0


def test_many_jobs_side_by_side(warm):
    commands = [warm.start("tell", str(number)) for number in range(12)]
    for number, command in enumerate(commands):
        out, _ = command.communicate(f"job {number}", timeout=60)
        assert out.rstrip().endswith(f"job {number}")
        assert command.returncode == number
    assert warm.end() == 0


def test_job_starts_cold_where_the_server_cannot_import(tmp_path):
    warm = Warm(tmp_path, preload="a_module_that_is_not_there")
    try:
        assert [warm.start("tell", "0").communicate("", timeout=20) for _ in range(2)] == [("cold\n", "")] * 2
    finally:
        assert warm.end() == 0
        assert warm.server.stderr.read().count("a_module_that_is_not_there'") == 1


def test_command_starts_cold_where_no_server_listens(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert run_warm("dino", ["knn"]) is None
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert run_warm("dino", ["knn"]) is None


def test_nonsense_on_the_socket_is_ignored(warm, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.connect(str(socket_path(tmp_path, "tried")))
        stranger.sendall(b"\x00\x00\x00\x02{]")
    assert warm.start("tell", "0").communicate("", timeout=20)[0] != "cold\n"


def test_job_has_the_threads_of_its_environment(tmp_path):
    warm = Warm(tmp_path, preload="torch")
    environment = {**warm.environment, FOLDER_VARIABLE: str(tmp_path)}
    try:
        for threads in ("1", "3"):
            out, error = warm.start("threads", env={**environment, "OMP_NUM_THREADS": threads}).communicate(timeout=60)
            assert out.strip() == threads, error
    finally:
        warm.end()
