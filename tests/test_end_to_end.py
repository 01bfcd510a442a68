"""The smoke scale through the real commands: killed on the way, finished by the next call, idle in the one after."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow

COMMAND = [str(BIN / "snakemake"), "--config", "scale=smoke", "studies=teacher"]
RUNS = 5


def call(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=900)


def environment(folder: Path) -> dict[str, str]:
    # Not activated: `snakemake` alone has to find `dino` and `python` beside itself.
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != str(BIN))
    return os.environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A project whose first call was killed (the process alone, as the kernel kills) while a model was training."""
    folder = tmp_path_factory.mktemp("end_to_end") / "project"
    folder.mkdir()
    shutil.copy2(project_root / "Snakefile", folder)
    for name in ("workflow", "ablations", "profiles"):
        shutil.copytree(project_root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    first = subprocess.Popen(
        COMMAND, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob("results/smoke/runs/*/metrics.jsonl")):
        assert first.poll() is None, "the workflow ended before a model trained"
        assert time.monotonic() < deadline, "no model has trained"
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    return folder


@pytest.fixture(scope="module")
def finished(project: Path) -> tuple[Path, str]:
    """The project after the second call, and what that call said."""
    run = call(project)
    assert run.returncode == 0, run.stdout + run.stderr
    return project, run.stdout + run.stderr


def test_killed_call_is_finished_by_the_next(finished: tuple[Path, str]):
    folder, output = finished
    assert "Locks of a run that was killed have been removed" in output
    assert "Report: results/smoke/report/index.html" in output
    assert len(list(folder.glob("results/smoke/runs/*/checkpoint.pth"))) == RUNS
    for artefact in ("tables/teacher.csv", "tables/teacher.md", "tables/teacher.tex", "figures/teacher.png"):
        assert (folder / "results/smoke" / artefact).stat().st_size > 0


def test_every_step_stands_once_in_each_journal(finished: tuple[Path, str]):
    for path in finished[0].glob("results/smoke/runs/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]
        assert steps == sorted(set(steps)), path


def test_each_cell_is_the_number_of_its_metrics_file(finished: tuple[Path, str]):
    folder = finished[0]
    measured = {
        path.parent.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("results/smoke/runs/*/metrics/knn.json")
    }
    assert len(measured) == RUNS
    for run, document in measured.items():
        assert document["run_id"] == run
        assert document["data"]["test"] == document["metrics"]["top1"]["n"]
    shown = list(csv.DictReader((folder / "results/smoke/tables/teacher.csv").open(encoding="utf-8")))
    assert len(shown) == RUNS
    for row in shown:
        assert float(row["ours"]) == pytest.approx(measured[row["run_ids"]]["metrics"]["top1"]["value"], abs=0.005)


def test_tracking_holds_every_run_with_its_evaluation(finished: tuple[Path, str]):
    with sqlite3.connect(finished[0] / "mlflow.db") as store:
        (finished_runs,) = store.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
        (unfinished,) = store.execute("select count(*) from runs where status != 'FINISHED'").fetchone()
    assert finished_runs >= 2 * RUNS  # pretrainings and their k-NN
    assert unfinished == 0


def test_no_process_is_left_behind(finished: tuple[Path, str]):
    folder = str(finished[0])
    left = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == folder:
                left.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or not ours
            continue
    assert left == []


def test_next_call_has_nothing_to_do(finished: tuple[Path, str]):
    run = call(finished[0])
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout + run.stderr
