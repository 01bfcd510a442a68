"""The files that a job left: its result, and the log lines worth showing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from submitit.core.utils import JobPaths, pickle_load

from .states import Outcome

_NOISE = re.compile(r"^submitit (INFO|WARNING|ERROR) \(")
_OUT_OF_MEMORY = re.compile(r"^(slurmstepd|srun).*(exceeded.*memory limit|oom[-_ ]kill|Out Of Memory)", re.M | re.I)
_LONGEST_READ = 64 * 1024  # bytes from the end of a log


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
