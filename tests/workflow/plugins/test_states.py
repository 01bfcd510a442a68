"""What Slurm and a job's files say, and what is concluded from it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit.states import (
    JobState,
    JobStatus,
    Judgement,
    Outcome,
    expand_job_ids,
    failed_task,
    judge,
    merge_states,
    outcome_of,
    parse_sacct,
    parse_squeue,
)
from submitit.core.utils import JobPaths

SUCCESS, ERROR = Outcome(success=True), Outcome(success=False, message="exit status 3")


def decide(outcome: Outcome | None, state: JobState | None, seconds: float = 0.0) -> Judgement:
    return judge(
        outcome=outcome, state=state, seconds_in_question=seconds, latency_s=5, lost_after_s=100,
        request="mem_mb=100", limit_min=7,
    )  # fmt: skip


def ended(word: str, **more: object) -> JobState:
    return JobState(word, alive=False, **more)  # type: ignore[arg-type]


RUNS, WAITS = JobState("RUNNING", alive=True), JobState("PENDING", alive=True)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("26", ["26"]),
        ("26_3", ["26_3"]),
        ("26_[0-2]", ["26_0", "26_1", "26_2"]),
        ("26_[1,4-5%2]", ["26_1", "26_4", "26_5"]),
        ("26_[0-4:2]", ["26_0", "26_2", "26_4"]),
    ],
)
def test_array_notation_is_expanded(text: str, ids: list[str]) -> None:
    assert expand_job_ids(text) == ids


def test_sacct_is_read() -> None:
    states = parse_sacct(
        "7|CANCELLED by 1000|0:15|n1\n8_[0-1%2]|PENDING|0:0|None assigned\n9|OUT_OF_MEMORY|0:125|n2\n"
        "9.0|FAILED|1:0|n2\nbroken line\n10|FAILED|3:0|n[1-2]\n"
    )
    assert states["7"] == ended("CANCELLED", signal=15, nodes="n1", detail="by 1000")
    assert states["8_0"].alive
    assert states["8_1"].alive
    assert states["9"].word == "OUT_OF_MEMORY"
    assert states["10"].exit_status == 3
    assert set(states) == {"7", "8_0", "8_1", "9", "10"}


def test_the_queue_is_believed_about_what_lives_and_the_books_about_ends() -> None:
    books = parse_sacct("1|NODE_FAIL|0:0|n1\n2|FAILED|3:0|n1\n3|RUNNING|0:0|n1\n4|FAILED|1:0|n1\n5|COMPLETED|0:0|n1\n")
    queue = parse_squeue("1|PENDING||BeginTime\n2|COMPLETING|n1|None\n4|PENDING||Resources\n6|RUNNING|n1|None\n")
    merged = merge_states([*"1234567"], books, queue)
    assert {job: state.word for job, state in merged.items()} == {
        "1": "PENDING",  # its node was lost, it is queued again
        "2": "FAILED",  # only its epilogue still runs
        "4": "PENDING",  # requeued by hand
        "5": "COMPLETED",
        "6": "RUNNING",  # the books are late
    }  # 3 runs in the books only, 7 nowhere
    assert merge_states(["3"], books, None)["3"].word == "RUNNING"


def test_a_result_is_enough_for_success() -> None:
    assert decide(SUCCESS, None).status is JobStatus.SUCCEEDED
    assert decide(SUCCESS, RUNS).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("state", [RUNS, WAITS, None])
def test_without_a_result_a_job_runs_as_long_as_nothing_else_is_known(state: JobState | None) -> None:
    assert decide(None, state).status is JobStatus.RUNNING


def test_an_error_counts_once_the_job_has_ended() -> None:
    assert decide(ERROR, RUNS).status is JobStatus.RUNNING
    assert decide(ERROR, ended("FAILED", nodes="n1")) == Judgement(JobStatus.FAILED, "exit status 3 (on n1)")


def test_an_error_of_a_requeued_job_is_forgotten() -> None:
    assert decide(ERROR, WAITS) == Judgement(JobStatus.RUNNING, stale_error=True)


def test_a_job_that_fails_but_does_not_end_is_cancelled() -> None:
    assert decide(ERROR, RUNS, 1000) == Judgement(JobStatus.FAILED, "exit status 3", cancel=True)


def test_a_vanished_job_fails_after_a_while() -> None:
    assert decide(None, None, 99).status is JobStatus.RUNNING
    lost = decide(None, None, 101)
    assert lost.status is JobStatus.FAILED
    assert "vanished" in lost.reason


def test_a_result_may_be_late() -> None:
    assert decide(None, ended("FAILED"), 4).status is JobStatus.RUNNING
    assert decide(None, ended("FAILED"), 6).status is JobStatus.FAILED
    assert decide(None, ended("COMPLETED"), 30).status is JobStatus.RUNNING
    assert decide(None, ended("NODE_FAIL"), 30).status is JobStatus.RUNNING, "Slurm may be about to requeue it"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ended("OUT_OF_MEMORY"), "out of memory (asked for mem_mb=100)"),
        (ended("TIMEOUT", nodes="n1"), "time limit of 7 min reached (on n1)"),
        (ended("NODE_FAIL", nodes="n[1-2]"), "node failure (on n[1-2])"),
        (ended("PREEMPTED"), "pre-empted and not requeued"),
        (ended("CANCELLED", detail="by 1000"), "cancelled from outside by 1000"),
        (ended("FAILED", exit_status=2), "exit status 2, and no result was left"),
        (ended("FAILED", signal=9), "killed by signal 9"),
        (ended("COMPLETED"), "the job ended (completed) but left no result"),
    ],
)
def test_reasons_are_words(state: JobState, reason: str) -> None:
    assert decide(None, state, 100).reason == reason


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
