"""The Slurm of the tests: one for all pytest processes, used by one test at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from slurm_cluster import why_not
from slurm_harness import Slurm, until

START_SECONDS = 240  # the installation of the packages included


@pytest.fixture(scope="session")
def slurm_facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Start the cluster, or find the one that another pytest process started; it ends with the main process."""
    reason = why_not()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    distributed = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    base = base.parent if distributed else base
    ready, parent = base / "slurm.json", os.getppid() if distributed else os.getpid()
    with (base / "slurm.start").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() and not ready.with_suffix(".error").exists():
            script = str(Path(__file__).parent / "slurm_cluster.py")
            subprocess.Popen(
                [sys.executable, script, "--ready", str(ready), "--parent", str(parent)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            until(lambda: ready.exists() or ready.with_suffix(".error").exists(), "the cluster is up", START_SECONDS)
    if ready.with_suffix(".error").exists():
        pytest.fail(f"Slurm did not start: {ready.with_suffix('.error').read_text()}")
    yield {**json.loads(ready.read_text()), "lock": base / "slurm.lock"}
    if not distributed:
        folder = Path(json.loads(ready.read_text())["folder"])
        (folder / "stop").touch()
        until(lambda: not folder.exists(), "the cluster has ended")


@pytest.fixture
def slurm(slurm_facts: dict[str, Any]) -> Iterator[Slurm]:
    """The cluster, empty and for this test alone."""
    with slurm_facts["lock"].open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = Slurm(slurm_facts["environment"], Path(slurm_facts["folder"]), slurm_facts["slurmd"])
        yield cluster
        for run in cluster.runs:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGKILL)
                run.process.wait()
        cluster.command("scancel", "--user=root")
        until(lambda: not cluster.command("squeue", "-h"), "the queue is empty")
        until(lambda: cluster.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").count("\n") == 1, "nodes are idle")
