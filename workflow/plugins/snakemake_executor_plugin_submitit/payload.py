"""What submitit runs for one Snakemake job: its command, watched over through signals, exit status 75 and requeues.

This module is imported on the nodes, once a task; it imports nothing of Snakemake.

The contract with the command (all of it optional):

* SIGUSR2 means that the time limit (or a pre-emption with notice) is near. It is ignored by default - a tool that knows
  nothing of it is not hurt -, so a program that installs a handler gets it, while ``trap`` in a shell cannot.
* Exit status 75 (``EX_TEMPFAIL``) means: "state is saved, start me again". The job is requeued under its own id and the
  same command is run again. Of a job of several tasks, task 0 decides.
* SIGTERM under Slurm means that the job is about to be killed, and perhaps requeued. Leaving a result now would tell
  Snakemake that it failed, so the payload waits to be killed, and Slurm's final state decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, JobPaths, pickle_load

from .ranks import rank_environment

EXIT_REQUEUE = os.EX_TEMPFAIL  # 75
KILL_AFTER_S = 5  # between SIGTERM and SIGKILL to the command of a cancelled local job
WAIT_TO_BE_KILLED_S = 900  # longer than any KillWait or GraceTime in use; then the job fails by itself
LATE_SIGNAL_S = 2  # a command that dies of Slurm's SIGTERM may be reaped before the payload's own SIGTERM arrives
REQUEUE_ATTEMPTS = 5
LONGEST_ARGUMENT = 100_000  # bytes; Linux refuses arguments of 128 KiB
THREAD_VARIABLES = (  # the ones that Snakemake itself sets for shell commands
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class CommandFailed(RuntimeError):
    """The job's command failed; the message is the reason that people are shown."""


@dataclass(frozen=True)
class RuleCommand:
    """A picklable callable that runs one command line; submitit calls it in every task of a job.

    Attributes:
        command: what the shell runs.
        shell: path of the shell, called as ``shell -c command``.
        directory: working directory.
        threads: value of ``OMP_NUM_THREADS`` and its kin; None leaves them alone.
        tmpdir: value of ``TMPDIR`` and its kin, or None.
        claim: file in which the first run notes its job id, for a Snakemake that was killed before it learnt it.
        runtime_min: time limit, to tell a time-out from a pre-emption.
        requeues_left: how many more requeues after a time-out or an unasked exit 75 are allowed.
        interruptions: how often the job was requeued so far.
    """

    command: str
    shell: str
    directory: str
    claim: str
    runtime_min: int
    requeues_left: int
    threads: int | None = None
    tmpdir: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    interruptions: int = 0

    def __call__(self) -> dict[str, Any]:
        """Run the command and return a summary (host, seconds, peak memory).

        Raises:
            CommandFailed: where the command fails or the requeue budget is used up.
        """
        job = JobEnvironment()
        if job.cluster != "debug":
            sys.excepthook = _without_traceback
        earlier = _earlier_result(job)
        if earlier is not None:
            return earlier  # requeued after it had finished, e.g. by a node failure: its outputs may be in use
        _remove_unfinished_files(job)
        self._claim(job)
        started = time.time()
        with _Watch(job) as watch:
            status = watch.run(self._arguments(), directory=self.directory, environment=self._environment(job))
        if status != 0 and job.cluster == "slurm" and not watch.terminated:
            time.sleep(LATE_SIGNAL_S)
        if watch.terminated:
            self._leave_terminated(job, watch)
        if status == EXIT_REQUEUE:
            return self._requeue(job, watch, seconds=time.time() - started)
        if status != 0:
            raise CommandFailed(_describe(status, warned=watch.warned))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "host": socket.gethostname(),
            "seconds": round(time.time() - started, 3),
            "peak_memory_mib": usage.ru_maxrss // 1024,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "interruptions": self.interruptions,
        }

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit is to run after a requeue: the same command, one interruption on."""
        return DelayedSubmission(replace(self, interruptions=self.interruptions + 1))

    def _arguments(self) -> list[str]:
        if len(self.command.encode()) <= LONGEST_ARGUMENT:
            return [self.shell, "-c", self.command]
        with tempfile.NamedTemporaryFile("w", prefix="snakemake-", suffix=".sh", delete=False) as script:
            # The shell has read the whole line, hence the file, before ``rm`` is run.
            script.write(f"{{ rm -f {script.name}\n{self.command}\n}}\n")
        return [self.shell, script.name]

    def _environment(self, job: JobEnvironment) -> dict[str, str]:
        environment = dict(os.environ)
        if self.threads is not None:
            environment.update(dict.fromkeys(THREAD_VARIABLES, str(self.threads)))
        if self.tmpdir is not None:
            os.makedirs(self.tmpdir, exist_ok=True)
            environment.update(dict.fromkeys(("TMPDIR", "TMP", "TEMPDIR", "TEMP"), self.tmpdir))
        environment.update(self.environment)
        environment.update(rank_environment(job, preset=environment))
        return environment

    def _claim(self, job: JobEnvironment) -> None:
        """Note our job id, once; refuse to be a second copy of a job that another submission runs already."""
        if job.global_rank != 0:
            return
        try:
            with open(self.claim, "x") as file:
                file.write(job.job_id)
        except FileExistsError:
            owner = Path(self.claim).read_text()
            if owner not in ("", job.job_id):
                raise CommandFailed(f"the same job is already run as job {owner}") from None

    def _leave_terminated(self, job: JobEnvironment, watch: _Watch) -> NoReturn:
        if job.cluster == "slurm":
            _note("terminated by Slurm; waiting for the end, so that a requeue is not mistaken for a failure")
            _wait_to_be_killed()
        if job.cluster == "debug" and watch.terminated == signal.SIGINT:
            raise KeyboardInterrupt  # Ctrl-C was meant for Snakemake, in whose process we are
        raise CommandFailed(f"terminated by {signal.Signals(watch.terminated or signal.SIGTERM).name}")

    def _requeue(self, job: JobEnvironment, watch: _Watch, *, seconds: float) -> dict[str, Any]:
        """Have submitit requeue the job; under Slurm and locally this does not return."""
        if job.global_rank != 0:
            if job.cluster == "slurm":
                _wait_to_be_killed()
            sys.exit(144)  # submitit's local controller starts all tasks again once all have left
        limit = 60 * self.runtime_min
        preempted = watch.warned and seconds < min(0.8 * limit, limit - 600)  # submitit's own distinction
        left = self.requeues_left - (0 if preempted else 1)
        if left < 0:
            raise CommandFailed(
                f"interrupted {self.interruptions + 1} times (exit status {EXIT_REQUEUE}): the budget of requeues "
                "(--submitit-max-requeues) is used up"
            )
        again = replace(self, requeues_left=left)
        if watch.handler is None:  # the debug cluster: no queue to go back to
            return replace(again, interruptions=again.interruptions + 1)()
        _note(f"exit status {EXIT_REQUEUE}: requeueing ({left} more allowed)")
        signal.signal(JobEnvironment._usr_sig(), signal.SIG_IGN)  # one requeue is enough
        watch.handler.delayed_function(again)
        for attempt in range(1, REQUEUE_ATTEMPTS + 1):
            try:
                watch.handler.requeue()
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                if attempt == REQUEUE_ATTEMPTS:
                    raise CommandFailed(f"asked to be requeued, which Slurm refused: {error}") from error
                time.sleep(5 * attempt)
        raise AssertionError("submitit returned from a requeue")


class _Handler:
    """submitit's signal handler, kept to be called when the command has left, not while it still saves its state."""

    def __init__(self, bound: Any) -> None:
        self._bound = bound
        self._submission: DelayedSubmission = bound.__self__._delayed

    def delayed_function(self, function: RuleCommand) -> None:
        """Set what a requeue is to run."""
        self._submission.function = function

    def requeue(self) -> None:
        """Pickle the submission anew and requeue the job; leaves the process by SystemExit."""
        self._bound(JobEnvironment._usr_sig(), None)


class _Watch:
    """Runs a command in a process group of its own and passes signals on; no handler ever waits."""

    def __init__(self, job: JobEnvironment) -> None:
        self.warned = False  # SIGUSR2 came
        self.terminated: int | None = None  # the signal by which we were told to end
        self.handler: _Handler | None = None
        self._local = job.cluster != "slurm"
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Watch:
        # Handlers can be set in the main thread only; elsewhere (a debugger, a notebook) there are just no signals.
        if threading.current_thread() is threading.main_thread():
            usr = JobEnvironment._usr_sig()
            bound = signal.getsignal(usr)
            if hasattr(getattr(bound, "__self__", None), "_delayed"):
                self.handler = _Handler(bound)
            stop = (signal.SIGTERM, signal.SIGINT) if self._local else (signal.SIGTERM,)
            for number in (usr, *stop, signal.SIGALRM):
                self._before[number] = signal.getsignal(number)
            signal.signal(usr, self._warn)
            for number in stop:
                signal.signal(number, self._stop)
            signal.signal(signal.SIGALRM, self._kill)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before:
            signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._process is not None and self._process.poll() is None:
            self._send(signal.SIGKILL)  # an exception got us here; leave nothing behind

    def run(self, arguments: list[str], *, directory: str, environment: dict[str, str]) -> int:
        """Return the exit status: negative for a signal."""
        if self.terminated:
            return -self.terminated
        self._process = subprocess.Popen(
            arguments,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # cancelling the job ends the whole group, not only the shell
            preexec_fn=_prepare_child,
        )
        if self.terminated:  # between the test above and the start
            self._send(signal.SIGTERM)
        status = self._process.wait()
        if self.terminated:
            self._send(signal.SIGKILL)  # what of the group outlived the shell
        return status

    def _send(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True
        self._send(number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.terminated = number
        self._send(signal.SIGTERM)
        if self._local:
            signal.alarm(KILL_AFTER_S)  # under Slurm the command has until KillWait, as everywhere on that cluster

    def _kill(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)


def _prepare_child() -> None:
    """Run in the child before exec: ignore SIGUSR2 (inherited through exec) and die with the payload (Linux)."""
    signal.signal(JobEnvironment._usr_sig(), signal.SIG_IGN)
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _earlier_result(job: JobEnvironment) -> dict[str, Any] | None:
    """Return what task 0 of this very job left with success in a run before a requeue."""
    if "SUBMITIT_FOLDER" not in os.environ:
        return None
    path = JobPaths(os.environ["SUBMITIT_FOLDER"], job_id=job.job_id, task_id=0).result_pickle
    if not path.exists():
        return None
    kind, value = pickle_load(path)
    if kind == "success":
        return value
    if job.global_rank == 0:
        path.unlink(missing_ok=True)  # of a run before the requeue; else it could be taken for this run's
    return None


def _remove_unfinished_files(job: JobEnvironment) -> None:
    """Remove the temporary files of a run that was killed while it wrote; submitit refuses to overwrite them."""
    if "SUBMITIT_FOLDER" in os.environ:
        paths = job.paths
        Path(f"{paths.result_pickle}.save_tmp").unlink(missing_ok=True)
        if job.global_rank == 0:
            Path(f"{paths.submitted_pickle}.save_tmp").unlink(missing_ok=True)


def _wait_to_be_killed() -> NoReturn:
    time.sleep(WAIT_TO_BE_KILLED_S)
    raise CommandFailed(f"told to end, and still here {WAIT_TO_BE_KILLED_S} s later")


def _describe(status: int, *, warned: bool) -> str:
    """Return the reason for a failed command, in words."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    try:
        name = signal.Signals(number).name if number else ""
    except ValueError:
        name = ""
    text = f"exit status {status}" if status > 0 else f"killed by {name or f'signal {number}'}"
    if name and status > 0:
        text += f" ({name})"
    if number == signal.SIGKILL:
        text += "; often this is the system's answer to too much memory"
    if warned:
        text += f"; it had been warned of the time limit by SIGUSR2 and did not leave with {EXIT_REQUEUE}"
    return text


def _note(message: str) -> None:
    print(f"[snakemake-submitit] {message}", file=sys.stderr, flush=True)


def _without_traceback(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Keep a failed command's log to its own words: a traceback of the payload would bury them."""
    if issubclass(kind, CommandFailed):
        _note(str(error))
    else:
        sys.__excepthook__(kind, error, trace)
