"""The warm processes beside one call of snakemake: who finds them, what they load, and when they end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from dino.warm.client import FOLDER_VARIABLE
from workflow.session.warm import LONGEST_PATH, WarmProcesses

OWNER = """
import time
from workflow.session.warm import WarmProcesses
print(WarmProcesses.start().folder, flush=True)
time.sleep(60)
"""
WRITE = [sys.executable, "-m", "workflow", "write-config", "{}", "--run-id", "another", "--output", "config.yaml"]


@pytest.fixture
def processes(monkeypatch) -> Iterator[WarmProcesses]:
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    started = WarmProcesses.start()
    yield started
    started.stop()


def loaded(process: subprocess.Popen[bytes]) -> str:
    return "\n".join(entry.path for entry in psutil.Process(process.pid).memory_maps())


def test_a_rules_command_runs_in_a_child_of_its_warm_process(processes, project_root, tmp_path):
    _, workflow = processes.processes
    assert "pandas" not in loaded(workflow)
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    command = subprocess.run(WRITE, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert command.returncode == 2
    assert b"the settings are those of dino-" in command.stderr
    assert "pandas" in loaded(workflow)


def test_nothing_heavy_is_loaded_before_a_job_asks(processes):
    time.sleep(1.0)  # they have started by now
    assert all("torch" not in loaded(process) for process in processes.processes)


def test_they_end_with_the_call_and_leave_nothing(processes):
    processes.stop()
    assert [process.returncode for process in processes.processes] == [0, 0]
    assert not processes.folder.exists()
    assert FOLDER_VARIABLE not in os.environ


def test_they_end_with_a_call_that_is_killed(project_root):
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=project_root, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        servers = psutil.Process(owner.pid).children()
        assert len(servers) == 2
        owner.kill()
    _, alive = psutil.wait_procs(servers, timeout=20)
    assert alive == []


def test_folder_of_sockets_is_short_enough_and_private(monkeypatch, tmp_path):
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    processes = WarmProcesses.start()
    try:
        assert len(str(processes.folder)) < LONGEST_PATH
        assert processes.folder.stat().st_mode & 0o077 == 0
        assert list(long.iterdir()) == []
    finally:
        processes.stop()
