"""What a job's files say of its end."""

import os
import pickle
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit.logs import failed_task, outcome_of
from snakemake_executor_plugin_submitit.states import Outcome
from submitit.core.utils import JobPaths


@pytest.fixture
def tasks(tmp_path: Path) -> list[JobPaths]:
    return [JobPaths(tmp_path, job_id="7", task_id=task) for task in range(3)]


def leave(paths: JobPaths, kind: str, value: object, second: int) -> None:
    paths.result_pickle.write_bytes(pickle.dumps((kind, value)))
    os.utime(paths.result_pickle, (second, second))


def test_a_job_without_errors_has_no_failed_task(tasks: list[JobPaths]) -> None:
    assert failed_task(tasks) is None
    leave(tasks[1], "success", {"host": "n1"}, 5)
    assert failed_task(tasks) is None


def test_the_task_that_failed_first_is_named_not_those_that_missed_it(tasks: list[JobPaths]) -> None:
    leave(tasks[0], "error", "Traceback ...\nCommandFailed: exit status 1", 20)
    leave(tasks[2], "error", "Traceback ...\nplugin.payload.CommandFailed: exit status 3\n", 10)
    assert failed_task(tasks) == (2, "exit status 3")


def test_a_result_that_is_just_being_written_is_none_yet(tasks: list[JobPaths]) -> None:
    tasks[0].result_pickle.write_bytes(b"")
    assert outcome_of(tasks[0]) is None
    leave(tasks[0], "error", "", 1)
    assert outcome_of(tasks[0]) == Outcome(success=False, message="failed without a word")
