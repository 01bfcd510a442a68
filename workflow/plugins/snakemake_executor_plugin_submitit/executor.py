"""The executor: what Snakemake calls. Planning, recovery and watching have modules of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.logging import LoggerExecutorInterface
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

from .clusters import SchedulerUnavailable, make_cluster
from .plans import JobPlan, JobPlanner, batches
from .recovery import Recovery
from .resources import check_names
from .settings import ExecutorSettings
from .states import JobStatus, Judgement, failed_task, job_logs, memory_ran_out, tail
from .tickets import Ticket, TicketStore
from .watch import Flight, Watcher

LOCAL_POLL_S = 0.2  # looking at files and processes of this machine costs next to nothing
NAP_S = 0.2  # in which the poll thread notices that Snakemake is ending


class Executor(RemoteExecutor):
    """Runs jobs through submitit."""

    def __init__(self, workflow: WorkflowExecutorInterface, logger: LoggerExecutorInterface) -> None:
        # RemoteExecutor starts the poll thread in its constructor: everything that it uses must exist before.
        settings: ExecutorSettings = workflow.executor_settings or ExecutorSettings()
        if workflow.remote_execution_settings.immediate_submit:
            raise WorkflowError("The submitit executor does not support --immediate-submit.")
        for rule in workflow.rules:  # a misspelt resource is found before the first job, not after the first day
            check_names(rule.name, rule.resources)
        folder = Path(settings.folder).expanduser().absolute()
        if "%" in str(folder):
            raise WorkflowError(f"--submitit-folder {folder}: placeholders like %j are not supported.")
        self.settings = settings
        self.tickets = TicketStore(folder / "tickets")
        self.cluster = make_cluster(settings.resolved_cluster(), folder, settings)
        self.planner = JobPlanner(
            workflow=workflow,
            settings=settings,
            cluster=self.cluster,
            tickets=self.tickets,
            nested_call=self.format_job_exec,
        )
        self.recovery = Recovery(
            workflow=workflow,
            settings=settings,
            cluster=self.cluster,
            tickets=self.tickets,
            planner=self.planner,
            logger=logger,
        )
        self.watcher = Watcher(
            cluster=self.cluster,
            settings=settings,
            tickets=self.tickets,
            latency_s=workflow.execution_settings.latency_wait,
            warn=logger.warning,
        )
        self._flights: dict[str, Flight] = {}  # by ticket key: all that were submitted and not yet reported
        self._reported: dict[Any, Ticket] = {}  # of jobs that Snakemake was told of and has not yet dealt with
        super().__init__(workflow, logger)

    # ---------------------------------------------------------------- submitting (Snakemake's main thread)

    def run_job(self, job: Any) -> None:
        """Submit one job."""
        self._run([job])

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submit the jobs that are ready, like ones together as an array."""
        for job in jobs:
            self.run_job_pre(job)
        self._run(jobs)

    def _run(self, jobs: Sequence[Any]) -> None:
        plans = [self.planner.plan(job) for job in jobs]  # a mistake in any of them stops before anything is submitted
        fresh = []
        for plan in plans:
            job_id = self.recovery.earlier_job(plan)
            if job_id is not None:
                self._launched(plan, job_id, again=True)
            elif self._prepare(plan):
                fresh.append(plan)
        for batch in batches(fresh, self.settings):
            self._submit(batch)

    def _prepare(self, plan: JobPlan) -> bool:
        """Do what Snakemake does before a local job: remove old outputs, make folders, wait for inputs."""
        try:
            if not plan.line.nested:
                self.workflow.async_run(plan.job.prepare())
            # From here on a crash leaves outputs that are known to be incomplete.
            plan.job.register(external_jobid=None)
        except (WorkflowError, OSError) as error:
            self.report_job_error(SubmittedJobInfo(plan.job), msg=f"{error} ")
            return False
        return True

    def _submit(self, batch: Sequence[JobPlan]) -> None:
        name = batch[0].ticket.name
        for index, plan in enumerate(batch):
            plan.ticket.name = name
            plan.ticket.index = index if len(batch) > 1 else None
            self.tickets.write(plan.ticket)
        payloads = [self.planner.payload(plan) for plan in batch]
        try:
            job_ids = self.cluster.submit(payloads, batch[0].request, name=name)
        except Exception as error:
            self._submission_failed(batch, error)
            return
        except BaseException:  # Ctrl-C while sbatch ran: the job may be in the queue
            self._withdraw(batch)
            raise
        for plan, job_id in zip(batch, job_ids, strict=True):
            self._launched(plan, job_id)

    def _launched(self, plan: JobPlan, job_id: str, *, again: bool = False) -> None:
        plan.ticket.job_id = job_id
        if not again:
            plan.ticket.process_started = self.cluster.started(job_id)
        self.tickets.write(plan.ticket)
        info = SubmittedJobInfo(plan.job, external_jobid=job_id, aux={"key": plan.ticket.key})
        flight = self._flights[plan.ticket.key] = Flight(info=info, plan=plan, job_id=job_id)
        what = "of an earlier run, which is taken over" if again else "now"
        self.logger.info(
            f"Job {plan.job.jobid} ({plan.ticket.rule}) is {self.cluster.name} job {job_id} {what} "
            f"(log: {self.watcher.paths(flight).stderr})."
        )
        self.report_job_submission(info)

    def _submission_failed(self, batch: Sequence[JobPlan], error: Exception) -> None:
        """Report the jobs as failed, unless the scheduler has taken them although the call failed."""
        try:
            base = self.cluster.find(batch[0].ticket.name)
        except SchedulerUnavailable:
            base = None
        for plan in batch:
            if base is not None:
                job_id = plan.ticket.full_id(base)
                self.recovery.hand_over(plan, plan.ticket, job_id)
                self._launched(plan, job_id)
            else:
                self.tickets.remove(plan.ticket)
                self.report_job_error(SubmittedJobInfo(plan.job), msg=f"could not be submitted: {error} ")

    def _withdraw(self, batch: Sequence[JobPlan]) -> None:
        try:
            base = self.cluster.find(batch[0].ticket.name)
            if base is not None:
                self.cluster.cancel([base])
        except SchedulerUnavailable as error:
            self.logger.warning(f"Could not look for an interrupted submission: {error}.")
            return  # the tickets stay: the next Snakemake finds the jobs
        for plan in batch:
            self.tickets.remove(plan.ticket)

    # ---------------------------------------------------------------- watching (the poll thread)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report what has ended and yield what still runs."""
        if not active_jobs:
            return
        flights = [self._flights[info.aux["key"]] for info in active_jobs]
        judgements = await self.watcher.look(flights, lambda: self.status_rate_limiter)
        for flight, judgement in zip(flights, judgements, strict=True):
            if judgement.status is JobStatus.RUNNING:
                yield flight.info
            else:
                self._report(flight, judgement)

    def _report(self, flight: Flight, judgement: Judgement) -> None:
        """Tell Snakemake of an end. The ticket stays until Snakemake has dealt with it (handle_job_*)."""
        self._flights.pop(flight.plan.ticket.key, None)
        self._reported[flight.plan.job] = flight.plan.ticket
        if judgement.status is JobStatus.SUCCEEDED:
            self.report_job_success(flight.info)
            return
        message, logs = self._explain(flight, judgement)
        if flight.plan.job.is_group():
            self.logger.error(message)  # Snakemake drops the message of a group
        self.report_job_error(flight.info, msg=message, aux_logs=logs)

    def _explain(self, flight: Flight, judgement: Judgement) -> tuple[str, list[str]]:
        """Return the message about a failed job, with the tail of its log, and its log files."""
        message = f"{self.cluster.name} job {flight.job_id} failed: {judgement.reason}."
        logs: list[str] = []
        try:
            if judgement.cancel:
                self.cluster.cancel([flight.job_id])
            tasks = self.watcher.tasks(flight)
            failed = failed_task(tasks)
            if memory_ran_out(tasks[0]) and "out of memory" not in message:
                message += f" It ran out of memory (asked for mem_mb={flight.plan.request.mem_mb or 'nothing'})."
            if failed and failed[1] not in judgement.reason:
                message += f" Task {failed[0]}: {failed[1]}."
            logs = job_logs(tasks[failed[0] if failed else 0])
            message += "\n" + tail([*map(str, flight.plan.job.log), *logs], self.settings.log_tail)
        except Exception as error:  # the failure itself must be reported in any case
            message += f" (Looking for more: {error!r}.)"
        return message, logs

    def handle_job_success(self, job: Any) -> None:
        """Forget a job whose outputs Snakemake has recorded."""
        self._forget(job)

    def handle_job_error(self, job: Any) -> None:
        """Forget a job whose failure Snakemake has recorded; it may be submitted again after this."""
        self._forget(job)

    def _forget(self, job: Any) -> None:
        ticket = self._reported.pop(job, None)
        if ticket is not None:
            self.tickets.remove(ticket)

    async def sleep(self) -> None:
        """Wait until the next poll, but not beyond the end of the run."""
        seconds = float(self.next_seconds_between_status_checks)
        if self.cluster.name != "slurm":
            seconds = min(seconds, LOCAL_POLL_S)
        until = time.monotonic() + seconds
        while self.wait and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(NAP_S, left))

    # ---------------------------------------------------------------- the end

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs in flight; ``active_jobs`` lacks those that the poll thread is just looking at."""
        flights = list(self._flights.values())
        if not flights:
            return
        try:
            self.cluster.cancel([flight.job_id for flight in flights])
        except SchedulerUnavailable as error:
            ids = ", ".join(flight.job_id for flight in flights)
            self.logger.error(
                f"Could not cancel {self.cluster.name} jobs {ids}: {error}. They go on; the next run of this workflow "
                "will find them."
            )
            return
        for flight in flights:
            self.tickets.remove(flight.plan.ticket)
        self.logger.info(f"Cancelled {len(flights)} {self.cluster.name} jobs.")
