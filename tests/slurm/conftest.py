"""The Slurm of the tests: one for all pytest processes, shared by most tests, used alone by those that break it."""

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

START_SECONDS = 600  # the installation of the packages included, which may wait for another apt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with these tests, which mostly wait.

    One of the processes that `make test` runs side by side then has them all (`--dist worksteal` gives each a part of
    the list), while the others compute; idle ones later take over from the end of its list.
    """
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


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
    failed, absent = ready.with_suffix(".error"), ready.with_suffix(".absent")
    with (base / "slurm.start").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(path.exists() for path in (ready, failed, absent)):
            script = str(Path(__file__).parent / "slurm_cluster.py")
            process = subprocess.Popen(
                [sys.executable, script, "--ready", str(ready), "--parent", str(parent)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            until(lambda: ready.exists() or process.poll() is not None, "the cluster is up", START_SECONDS)
    if absent.exists():
        pytest.skip(f"no Slurm: {absent.read_text()}")
    if not ready.exists():
        why = failed.read_text() if failed.exists() else "its process ended without a word"
        pytest.fail(f"Slurm did not start (DINO_SLURM_TESTS=0 leaves these tests out): {why}")
    yield {**json.loads(ready.read_text()), "lock": base / "slurm.lock"}
    if not distributed:
        folder = Path(json.loads(ready.read_text())["folder"])
        (folder / "stop").touch()
        until(lambda: not folder.exists(), "the cluster has ended")


@pytest.fixture
def slurm(slurm_facts: dict[str, Any], tmp_path: Path) -> Iterator[Slurm]:
    """The cluster, on which another test may run jobs, too."""
    with slurm_facts["lock"].open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield from _use(slurm_facts, tmp_path)


@pytest.fixture
def slurm_alone(slurm_facts: dict[str, Any], tmp_path: Path) -> Iterator[Slurm]:
    """The cluster, for this test alone: it loses nodes."""
    with slurm_facts["lock"].open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _use(slurm_facts, tmp_path)
        cluster = Slurm(slurm_facts["environment"], Path(slurm_facts["folder"]), tmp_path)
        until(lambda: cluster.idle_nodes() == 2, "both nodes are back and idle")


def _use(facts: dict[str, Any], home: Path) -> Iterator[Slurm]:
    cluster = Slurm(facts["environment"], Path(facts["folder"]), home)
    yield cluster
    for run in cluster.runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()
    if left := cluster.queued():
        cluster.command("scancel", *left)
    until(lambda: not cluster.queued(), "the test's jobs have left the queue")
