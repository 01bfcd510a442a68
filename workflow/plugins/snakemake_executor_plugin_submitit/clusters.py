"""The places where jobs run, behind one small interface over submitit's executors."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import submitit
from snakemake_interface_common.exceptions import WorkflowError
from submitit.core.utils import DelayedSubmission, JobPaths, environment_variables

from .payload import RuleCommand
from .resources import Request, local_parameters, slurm_parameters
from .settings import ExecutorSettings
from .states import JobState, expand_job_ids, merge_states, parse_sacct, parse_squeue

COMMAND_TIMEOUT_S = 60
IDS_PER_COMMAND = 500
QUEUE_CHECK_EVERY = 10  # accounting rounds after which the queue is asked about healthy jobs, too


class SchedulerUnavailable(RuntimeError):
    """The scheduler did not answer; nothing is known about any job."""


class Cluster(ABC):
    """Submits payloads and answers for their jobs, which are named by submitit's job ids."""

    name: str

    def __init__(self, folder: Path, settings: ExecutorSettings) -> None:
        self.folder = folder
        self.settings = settings

    @abstractmethod
    def check(self, request: Request, *, rule: str) -> None:
        """Raise a WorkflowError for a request that this cluster cannot fulfil."""

    @abstractmethod
    def submit(self, payloads: Sequence[RuleCommand], request: Request, *, name: str) -> list[str]:
        """Submit the payloads, several as one array, their files in a folder of that unique name.

        Returns:
            The job ids in the order of the payloads.
        """

    @abstractmethod
    def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs; unknown ones are left out. Raises SchedulerUnavailable."""

    @abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; those already gone are no error. Raises SchedulerUnavailable."""

    def find(self, name: str) -> str | None:
        """Return the id (of an array without index) under which a submission is known, None if it never arrived."""
        return None

    def attach(self, job_id: str, *, started: float | None) -> None:  # noqa: B027 (most clusters have nothing to do)
        """Take a job of an earlier Snakemake over, whose process was created at that time."""

    def started(self, job_id: str) -> float | None:
        """Return when the process behind a local job was created."""
        return None

    def paths(self, name: str, job_id: str, task: int = 0) -> JobPaths:
        """Return submitit's files of one task. A folder a submission: process numbers, even Slurm's ids, come again."""
        return JobPaths(self.folder / name, job_id=job_id, task_id=task)


def make_cluster(name: str, folder: Path, settings: ExecutorSettings) -> Cluster:
    """Return the cluster ``slurm``, ``local`` or ``debug``."""
    clusters: dict[str, type[Cluster]] = {"slurm": SlurmCluster, "local": LocalCluster, "debug": DebugCluster}
    return clusters[name](folder, settings)


class SlurmCluster(Cluster):
    """Slurm through sbatch; states by one sacct call for all jobs, or squeue where there is no accounting."""

    name = "slurm"

    def __init__(self, folder: Path, settings: ExecutorSettings) -> None:
        super().__init__(folder, settings)
        self._accounting = shutil.which("sacct") is not None
        self._rounds = 0

    def check(self, request: Request, *, rule: str) -> None:
        """Everything is left to sbatch, which knows the partitions."""

    def submit(self, payloads: Sequence[RuleCommand], request: Request, *, name: str) -> list[str]:
        """Submit with one sbatch."""
        executor = submitit.SlurmExecutor(self.folder / name, max_num_timeout=self.settings.max_requeues + 1)
        parameters = slurm_parameters(
            request,
            signal_delay_s=self.settings.signal_delay,
            array_parallelism=self.settings.array_parallelism,
            setup=self.settings.setup,
        )
        executor.folder.mkdir(parents=True, exist_ok=True)  # before Slurm 23.02 a job without it fails silently
        executor.update_parameters(job_name=name, **parameters)
        with _outside_any_job():
            return [job.job_id for job in executor.submit_array(list(payloads))]

    def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Ask sacct; then squeue about those that sacct says have ended or does not know."""
        accounting: dict[str, JobState] = {}
        if self._accounting:
            try:
                for ids in _chunks(_base_ids(job_ids)):
                    accounting |= parse_sacct(
                        _answer("sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode,NodeList", "-j", ",".join(ids))
                    )
            except SchedulerUnavailable as error:
                if "disabled" not in str(error):  # "Slurm accounting storage is disabled"
                    raise
                self._accounting = False
        doubtful = [job_id for job_id in job_ids if job_id not in accounting or not accounting[job_id].alive]
        queue: dict[str, JobState] | None = None
        self._rounds += 1
        if doubtful or self._rounds % QUEUE_CHECK_EVERY == 0:
            queue = {}
            asked = job_ids if self._rounds % QUEUE_CHECK_EVERY == 0 else doubtful
            for ids in _chunks(_base_ids(asked)):
                queue |= self._queue("-j", ",".join(ids))
            merged = merge_states(asked, accounting, queue)
            return merge_states([i for i in job_ids if i not in set(asked)], accounting, None) | merged
        return merge_states(job_ids, accounting, None)

    def _queue(self, *selection: str) -> dict[str, JobState]:
        try:
            return parse_squeue(_answer("squeue", "-h", "-a", "-r", "-t", "all", "-o", "%i|%T|%N|%r", *selection))
        except SchedulerUnavailable as error:
            if "Invalid job id" in str(error):  # none of them is known any more
                return {}
            raise

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Send one scancel for all."""
        for ids in _chunks(list(job_ids)):
            try:
                _answer("scancel", *ids)
            except SchedulerUnavailable as error:
                if "Invalid job id" not in str(error) and "already completing" not in str(error):
                    raise

    def find(self, name: str) -> str | None:
        """Look among the names of the user's jobs, in the queue and in the books."""
        listed = _answer("squeue", "-h", "-a", "-t", "all", "-o", "%i|%j", "-u", str(os.getuid()))
        if self._accounting:
            listed += _answer("sacct", "-X", "-n", "-P", "-S", "now-7days", "-o", "JobID,JobName")
        for line in listed.splitlines():
            job_id, _, listed_name = line.strip().partition("|")
            if listed_name == name:
                return expand_job_ids(job_id)[0].partition("_")[0]
        return None


class LocalCluster(Cluster):
    """Processes on this machine, which outlive Snakemake."""

    name = "local"

    def __init__(self, folder: Path, settings: ExecutorSettings) -> None:
        super().__init__(folder, settings)
        self._jobs: dict[str, submitit.Job[Any]] = {}
        self._attached: dict[str, float | None] = {}

    def check(self, request: Request, *, rule: str) -> None:
        """There is one node."""
        local_parameters(request, rule=rule, signal_delay_s=0, setup="")

    def submit(self, payloads: Sequence[RuleCommand], request: Request, *, name: str) -> list[str]:
        """Start one controller process a job."""
        executor = submitit.LocalExecutor(self.folder / name, max_num_timeout=self.settings.max_requeues + 1)
        executor._throttling = 0.0  # spares a scheduler that is not there
        executor.update_parameters(
            **local_parameters(request, rule=name, signal_delay_s=self.settings.signal_delay, setup=self.settings.setup)
        )
        jobs = executor.submit_array(list(payloads))
        self._jobs.update({job.job_id: job for job in jobs})
        return [job.job_id for job in jobs]

    def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Look at the controllers."""
        return {job_id: self._state(job_id) for job_id in job_ids}

    def _state(self, job_id: str) -> JobState:
        job = self._jobs.get(job_id)
        if job is not None:
            running = not job.done()
        else:
            process = self._controller(job_id)
            running = process is not None
        if running:
            return JobState("RUNNING", alive=True)
        return JobState("ENDED", alive=False, detail="its process ended without a result (was it killed?)")

    def _controller(self, job_id: str) -> psutil.Process | None:
        """Return the controller of a job that an earlier Snakemake started, None if it has ended."""
        try:
            process = psutil.Process(int(job_id))
            started = self._attached.get(job_id)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            if started is not None and abs(process.create_time() - started) > 2:
                return None
            return process if _is_submitit(process) else None
        except (psutil.Error, ValueError):
            return None

    def started(self, job_id: str) -> float | None:
        """Return the creation time of the controller."""
        try:
            return psutil.Process(int(job_id)).create_time()
        except psutil.Error:
            return None

    def attach(self, job_id: str, *, started: float | None) -> None:
        """Remember when the process must have been created."""
        self._attached[job_id] = started

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Ask controllers and tasks to end (the payload then ends the command's group); kill what does not."""
        trees = []
        for job_id in job_ids:
            try:
                if self._state(job_id).alive:
                    process = psutil.Process(int(job_id))
                    tree = [process, *process.children(recursive=True)]
                    trees += tree
                    # With a setup line the process is a shell around the controller, which passes SIGTERM to its tasks.
                    controllers = [one for one in tree if _is_submitit(one)]
                    (controllers or [process])[-1].send_signal(signal.SIGTERM)
            except psutil.NoSuchProcess:
                continue
        _, left = psutil.wait_procs(trees, timeout=8)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class DebugCluster(Cluster):
    """Runs each job in the Snakemake process at once: breakpoints work, nothing runs in parallel."""

    name = "debug"

    def check(self, request: Request, *, rule: str) -> None:
        """One task only."""
        if request.tasks > 1:
            raise WorkflowError(f"Rule {rule} asks for {request.tasks} tasks; the debug cluster runs one.")

    def submit(self, payloads: Sequence[RuleCommand], request: Request, *, name: str) -> list[str]:
        """Run the payloads one after the other and leave their results where submitit's other executors do."""
        job_ids = []
        for index, payload in enumerate(payloads):
            job_id = f"{name}_{index}"
            paths = self.paths(name, job_id)
            paths.folder.mkdir(parents=True, exist_ok=True)
            with environment_variables(
                SUBMITIT_DEBUG_JOB_ID=job_id, SUBMITIT_FOLDER=str(paths.folder), SUBMITIT_EXECUTOR="debug"
            ):
                DelayedSubmission(payload).dump(paths.submitted_pickle)
                try:
                    result: tuple[str, Any] = ("success", DelayedSubmission.load(paths.submitted_pickle).result())
                except Exception as error:
                    result = ("error", f"{type(error).__name__}: {error}")
                submitit.core.utils.cloudpickle_dump(result, paths.result_pickle)
            job_ids.append(job_id)
        return job_ids

    def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Everything has ended."""
        return {job_id: JobState("ENDED", alive=False) for job_id in job_ids}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """There is never a job to cancel."""


def _answer(*command: str) -> str:
    """Return what a Slurm command prints; raises SchedulerUnavailable where it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SchedulerUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SchedulerUnavailable(f"{command[0]}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def _is_submitit(process: psutil.Process) -> bool:
    """Return whether a process is submitit's local controller, or a shell that is about to start one."""
    return any("submitit.local._local" in word for word in process.cmdline())


def _base_ids(job_ids: Sequence[str]) -> list[str]:
    """Return ids without array indices, each once."""
    return list(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), IDS_PER_COMMAND):
        yield ids[start : start + IDS_PER_COMMAND]


@contextlib.contextmanager
def _outside_any_job() -> Iterator[None]:
    """Hide the variables of the Slurm job that Snakemake itself may run in; they would override the new job's.

    submitit's own ``clean_env`` hides SLURM_CONF as well, without which sbatch does not find its cluster.
    """
    inherited = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SRUN_", "SLURMD_", "PMI_", "PMIX_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(inherited)


def this_host() -> str:
    """Return the name of the machine, which local job ids are only valid on."""
    return socket.gethostname()
