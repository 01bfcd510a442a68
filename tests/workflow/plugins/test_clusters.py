"""Questions to Slurm, with stand-ins for its commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit.clusters import SchedulerUnavailable, SlurmCluster, _outside_any_job
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the PATH; what is put there answers for Slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    put(folder, "squeue", "")
    put(folder, "sacct", "")
    return folder


def put(folder: Path, name: str, answer: str, *, error: str = "", status: int = 0) -> None:
    script = folder / name
    note = f'echo "{name} $*" >> {folder}/calls'
    script.write_text(f"#!/bin/sh\n{note}\nprintf '{answer}'\nprintf '{error}' >&2\nexit {status}\n")
    script.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def slurm(tmp_path: Path) -> SlurmCluster:
    return SlurmCluster(tmp_path, ExecutorSettings())


def test_one_sacct_answers_for_all_jobs_and_arrays_are_asked_for_once(commands: Path, tmp_path: Path) -> None:
    put(commands, "sacct", "7|RUNNING|0:0|n1\\n8_0|RUNNING|0:0|n1\\n8_[1-2]|PENDING|0:0|\\n")
    states = slurm(tmp_path).states(["7", "8_0", "8_1", "8_2"])
    assert [state.word for state in states.values()] == ["RUNNING", "RUNNING", "PENDING", "PENDING"]
    (call,) = calls(commands)
    assert call.endswith("-j 7,8")


def test_an_end_is_confirmed_by_the_queue(commands: Path, tmp_path: Path) -> None:
    put(commands, "sacct", "7|NODE_FAIL|0:0|n1\\n8|RUNNING|0:0|n1\\n")
    put(commands, "squeue", "7|PENDING||BeginTime\\n")
    states = slurm(tmp_path).states(["7", "8"])
    assert (states["7"].word, states["8"].word) == ("PENDING", "RUNNING")
    assert calls(commands)[-1].endswith("-j 7"), "only the doubtful one is asked for"


def test_without_accounting_the_queue_answers(commands: Path, tmp_path: Path) -> None:
    put(commands, "sacct", "", error="Slurm accounting storage is disabled", status=1)
    put(commands, "squeue", "7|RUNNING|n1|None\\n")
    cluster = slurm(tmp_path)
    assert cluster.states(["7", "8"])["7"].alive
    cluster.states(["7"])
    assert sum(call.startswith("sacct") for call in calls(commands)) == 1, "not asked again"


def test_a_silent_scheduler_is_no_answer(commands: Path, tmp_path: Path) -> None:
    put(commands, "sacct", "", error="Unable to contact slurm controller", status=1)
    with pytest.raises(SchedulerUnavailable, match="Unable to contact"):
        slurm(tmp_path).states(["7"])


def test_jobs_that_the_queue_has_forgotten_are_unknown(commands: Path, tmp_path: Path) -> None:
    put(commands, "squeue", "", error="slurm_load_jobs error: Invalid job id specified", status=1)
    assert slurm(tmp_path).states(["7"]) == {}


def test_a_submission_is_found_by_its_name(commands: Path, tmp_path: Path) -> None:
    put(commands, "squeue", "30_[0-2]|train-abc\\n31|other-abc\\n")
    put(commands, "sacct", "12|eval-def\\n")
    cluster = slurm(tmp_path)
    assert cluster.find("train-abc") == "30"
    assert cluster.find("eval-def") == "12"
    assert cluster.find("none") is None


def test_cancelling_what_has_ended_is_no_error(commands: Path, tmp_path: Path) -> None:
    put(commands, "scancel", "", error="scancel: error: Kill job error on job id 7: Invalid job id specified", status=1)
    slurm(tmp_path).cancel(["7", "8_1"])
    assert calls(commands) == ["scancel 7 8_1"]
    put(commands, "scancel", "", error="Unable to contact slurm controller", status=1)
    with pytest.raises(SchedulerUnavailable):
        slurm(tmp_path).cancel(["7"])


def test_a_job_is_submitted_without_the_variables_of_the_job_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    with _outside_any_job():
        assert "SLURM_MEM_PER_CPU" not in os.environ
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert os.environ["SLURM_MEM_PER_CPU"] == "100"


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ExecutorSettings().resolved_cluster() == "local"
    with pytest.raises(WorkflowError, match="no sbatch"):
        ExecutorSettings(cluster="slurm").resolved_cluster()
    with pytest.raises(WorkflowError, match="--submitit-array-size must be at least 1"):
        ExecutorSettings(array_size=0)
    assert ExecutorSettings(arrays="knn, linear").may_be_array("linear")
    assert not ExecutorSettings(arrays="knn").may_be_array("linear")
    assert not ExecutorSettings(arrays="none").may_be_array("knn")
