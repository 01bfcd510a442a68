"""What became of a job: Slurm's answers, the result and the logs that the job left, and what follows from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from submitit.core.utils import JobPaths, pickle_load

# Slurm's words (man sacct, JOB STATE CODES) for jobs that may still do something.
ALIVE = frozenset(
    {
        "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "RUNNING",
        "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
    }
)  # fmt: skip
QUEUED = frozenset({"CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
# The end of one run of a job that Slurm may start again by itself.
MAY_COME_BACK = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"})

UNEXPLAINED_LAG_S = 60.0  # a job that ended well left something: network file systems hide new files up to a minute
STUCK_AFTER_ERROR_S = 120.0  # task 0 failed and the job does not end: other tasks wait for it

_NOISE = re.compile(r"^submitit (INFO|WARNING|ERROR) \(")
_OUT_OF_MEMORY = re.compile(r"^(slurmstepd|srun).*(exceeded.*memory limit|oom[-_ ]kill|Out Of Memory)", re.M | re.I)
_LONGEST_READ = 64 * 1024  # bytes from the end of a log


@dataclass(frozen=True)
class JobState:
    """The scheduler's view of one job: Slurm's state word, exit status or signal, and the nodes."""

    word: str
    alive: bool
    exit_status: int = 0
    signal: int = 0
    nodes: str = ""
    detail: str = ""


class JobStatus(Enum):
    """Where a job is, as Snakemake sees it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Judgement:
    """What to tell Snakemake; a failure has its reason, and says whether the job still has to be cancelled."""

    status: JobStatus
    reason: str = ""
    cancel: bool = False
    stale_error: bool = False  # the error is of a run before a requeue; forget it


@dataclass(frozen=True)
class Outcome:
    """The result file of a task: success, or the last line of its error."""

    success: bool
    message: str = ""


RUNNING = Judgement(JobStatus.RUNNING)


def judge(
    *,
    outcome: Outcome | None,
    state: JobState | None,
    seconds_in_question: float,
    latency_s: float,
    lost_after_s: float,
    request: str = "",
    limit_min: int = 0,
) -> Judgement:
    """Decide over a job.

    Args:
        outcome: what task 0 left, None for nothing.
        state: what the scheduler says, None where it knows nothing of the job.
        seconds_in_question: how long outcome and state have been contradicting "running" already.
        latency_s: how late a result that was written on a node may show up here.
        lost_after_s: how long a job may be unknown.
        request: what of memory the job asked for, for the message.
        limit_min: its time limit in minutes, for the message.
    """
    if outcome is not None and outcome.success:
        return Judgement(JobStatus.SUCCEEDED)
    if state is None:
        if seconds_in_question < lost_after_s:
            return RUNNING
        reason = outcome.message if outcome else "vanished: the scheduler does not know it, it left no result"
        return Judgement(JobStatus.FAILED, reason)
    if state.alive:
        if outcome is None:
            return RUNNING
        if state.word in QUEUED:
            return Judgement(JobStatus.RUNNING, stale_error=True)
        if seconds_in_question < STUCK_AFTER_ERROR_S:
            return RUNNING
        return Judgement(JobStatus.FAILED, outcome.message, cancel=True)
    patient = state.word == "COMPLETED" or state.word in MAY_COME_BACK
    if outcome is None and seconds_in_question < (max(UNEXPLAINED_LAG_S, latency_s) if patient else latency_s):
        return RUNNING
    return Judgement(JobStatus.FAILED, failure_reason(state, outcome, request=request, limit_min=limit_min))


def failure_reason(state: JobState, outcome: Outcome | None, *, request: str = "", limit_min: int = 0) -> str:
    """Return in words why a job ended without success."""
    nodes = f" (on {state.nodes})" if state.nodes and state.nodes != "None assigned" else ""
    asked = f" (asked for {request})" if request else ""
    match state.word:
        case "OUT_OF_MEMORY":
            return f"out of memory{asked}{nodes}"
        case "TIMEOUT" | "DEADLINE":
            after = f" of {limit_min} min" if limit_min else ""
            return f"time limit{after} reached{nodes}"
        case "NODE_FAIL" | "BOOT_FAIL":
            return f"node failure{nodes}"
        case "PREEMPTED" | "REVOKED":
            return f"pre-empted and not requeued{nodes}"
        case "CANCELLED":
            return f"cancelled from outside{' ' + state.detail if state.detail else ''}{nodes}"
    if outcome is not None:
        return f"{outcome.message}{nodes}"
    if state.signal:
        return f"killed by signal {state.signal}{nodes}"
    if state.exit_status:
        return f"exit status {state.exit_status}, and no result was left{nodes}"
    if state.detail:
        return f"{state.detail}{nodes}"
    return f"the job ended ({state.word.lower()}) but left no result{nodes}"


def expand_job_ids(text: str) -> list[str]:
    """Expand Slurm's array notation: ``26_[0-2,5%4]`` is ``26_0, 26_1, 26_2, 26_5``."""
    match = re.fullmatch(r"(\d+)_\[([^\]%]*)(?:%\d+)?\]", text)
    if not match:
        return [text]
    ids = []
    for part in match.group(2).split(","):
        bounds, _, step = part.partition(":")
        low, _, high = bounds.partition("-")
        if low.isdigit():
            ids += [f"{match.group(1)}_{k}" for k in range(int(low), int(high or low) + 1, int(step or 1))]
    return ids


def parse_sacct(text: str) -> dict[str, JobState]:
    """Parse ``sacct -X --noheader --parsable2 --format=JobID,State,ExitCode,NodeList``."""
    states = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) < 4 or "." in fields[0]:
            continue
        word, _, detail = fields[1].partition(" ")  # "CANCELLED by 1000"
        word = word.rstrip("+")
        status, _, number = fields[2].partition(":")
        state = JobState(
            word=word,
            alive=word in ALIVE or word == "COMPLETING",
            exit_status=int(status) if status.isdigit() else 0,
            signal=int(number) if number.isdigit() else 0,
            nodes=fields[3],
            detail=detail,
        )
        states.update(dict.fromkeys(expand_job_ids(fields[0]), state))
    return states


def parse_squeue(text: str) -> dict[str, JobState]:
    """Parse ``squeue --noheader --array --states=all --format=%i|%T|%N|%r``."""
    states = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) < 4:
            continue
        state = JobState(
            word=fields[1], alive=fields[1] in ALIVE or fields[1] == "COMPLETING", nodes=fields[2], detail=fields[3]
        )
        states.update(dict.fromkeys(expand_job_ids(fields[0]), state))
    return states


def merge_states(
    ids: Iterable[str], accounting: dict[str, JobState], queue: dict[str, JobState] | None
) -> dict[str, JobState]:
    """Combine accounting (which explains ends) with the queue (which is never late about what lives).

    Args:
        ids: the jobs in question; what neither source knows is left out.
        accounting: sacct's answer.
        queue: squeue's answer, None where it was not asked.
    """
    merged = {}
    for job_id in ids:
        recorded = accounting.get(job_id)
        queued = queue.get(job_id) if queue is not None else None
        if queued is not None and queued.alive:
            over = recorded is not None and not recorded.alive and recorded.word not in MAY_COME_BACK
            merged[job_id] = recorded if queued.word == "COMPLETING" and recorded and over else queued
        elif recorded is not None and not recorded.alive:
            merged[job_id] = recorded
        elif queued is not None:
            merged[job_id] = queued
        elif recorded is not None and queue is None:
            merged[job_id] = recorded
        # else: alive in the books only ("runaway"), the end of the job was never written down: unknown
    return merged


def outcome_of(paths: JobPaths) -> Outcome | None:
    """Return the result of a task, None where it has left none (yet)."""
    if not paths.result_pickle.exists():
        return None
    try:
        kind, value = pickle_load(paths.result_pickle)
    except (EOFError, FileNotFoundError):
        return None  # seen while it came into being; the next look is a full one
    if kind == "success":
        return Outcome(success=True)
    lines = [line for line in str(value).strip().splitlines() if line.strip()]
    message = lines[-1] if lines else "failed without a word"
    return Outcome(success=False, message=re.sub(r"^[\w.]*CommandFailed: ", "", message))


def failed_task(tasks: Sequence[JobPaths]) -> tuple[int, str] | None:
    """Return number and message of the task that failed first; the others often only tell that it was gone."""
    failures = []
    for task, paths in enumerate(tasks):
        outcome = outcome_of(paths)
        if outcome is not None and not outcome.success:
            failures.append((paths.result_pickle.stat().st_mtime_ns, task, outcome.message))
    return min(failures)[1:] if failures else None


def job_logs(paths: JobPaths) -> list[str]:
    """Return the logs of a task that exist and hold something, stderr first."""
    return [str(path) for path in (paths.stderr, paths.stdout) if path.exists() and path.stat().st_size]


def memory_ran_out(paths: JobPaths) -> bool:
    """Return whether Slurm says in the job's log that it killed for memory.

    Where memory is enforced by polling instead of cgroups, the job's final state is a mere FAILED.
    """
    return paths.stderr.exists() and bool(_OUT_OF_MEMORY.search(_end_of(str(paths.stderr))))


def tail(paths: Sequence[str], lines: int) -> str:
    """Return the last lines of the first log that has something to say."""
    if not lines:
        return ""
    for path in paths:
        try:
            text = _end_of(path)
        except (FileNotFoundError, IsADirectoryError):
            continue
        kept = [line for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
        if kept:
            shown = "\n".join(f"      | {line}" for line in kept[-lines:])
            return f"    last lines of {path}:\n{shown}\n"
    return ""


def _end_of(path: str) -> str:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_READ))
        return file.read().decode("utf-8", errors="replace")


def refresh(folder: os.PathLike[str]) -> None:
    """Make NFS look again: its directory cache may hide a new file for a minute."""
    try:
        os.chmod(folder, os.stat(folder).st_mode)
    except PermissionError:
        return  # not ours; then the scheduler's word has to do
