"""Finding the jobs of a Snakemake that was killed: running ones are watched again, finished ones collected."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.logging import LoggerExecutorInterface
from submitit.core.utils import DelayedSubmission

from .clusters import Cluster, SchedulerUnavailable, this_host
from .plans import JobPlan, JobPlanner
from .settings import ExecutorSettings
from .states import JobState, outcome_of
from .tickets import Ticket, TicketStore, read_the_same

CLAIM_GRACE_S = 5.0  # a local job that was started notes its id within that time
CLAIM_POLL_S = 0.2
LONGEST_END_S = 120.0  # between scancel and the end of a job, which Slurm's KillWait bounds


class Recovery:
    """Decides for each job that is to be submitted whether an earlier Snakemake has submitted it already."""

    def __init__(
        self,
        *,
        workflow: Any,
        settings: ExecutorSettings,
        cluster: Cluster,
        tickets: TicketStore,
        planner: JobPlanner,
        logger: LoggerExecutorInterface,
    ) -> None:
        self._workflow = workflow
        self._settings = settings
        self._cluster = cluster
        self._tickets = tickets
        self._planner = planner
        self._logger = logger
        self._states: dict[str, JobState] | None = None  # of earlier jobs, asked once

    def earlier_job(self, plan: JobPlan) -> str | None:
        """Return the id of the earlier job that is to be watched instead of a new one, None to submit anew.

        With an id, the plan has the earlier job's ticket and the job has all that it needs to run.
        """
        if self._states is None:
            self._states = self._look_around()
        ticket = self._tickets.read(plan.ticket.key)
        if ticket is None:
            return None
        job_id = self._still_good(ticket, plan)
        if job_id is None:
            self._tickets.remove(ticket)
            return None
        self._cluster.attach(job_id, started=ticket.process_started)
        self.hand_over(plan, ticket, job_id)
        return job_id

    def hand_over(self, plan: JobPlan, ticket: Ticket, job_id: str) -> None:
        """Take a submitted job's ticket; if its submitter died before it left the payload, leave that now."""
        plan.ticket = ticket
        paths = self._cluster.paths(ticket.name, job_id)
        if paths.submitted_pickle.exists() or outcome_of(paths) is not None:
            return
        submission = DelayedSubmission(self._planner.payload(plan))
        submission.set_timeout(plan.request.runtime_min, self._settings.max_requeues + 1)
        temporary = paths.submitted_pickle.with_name(f"{paths.submitted_pickle.name}.repaired")
        submission.dump(temporary)
        temporary.rename(paths.submitted_pickle)

    def _still_good(self, ticket: Ticket, plan: JobPlan) -> str | None:
        """Return the id of an earlier job that runs, may run, or has done what the plan is for."""
        who = f"of an earlier run ({ticket.rule})"
        if ticket.cluster != self._cluster.name or (ticket.cluster == "local" and ticket.host != this_host()):
            self._logger.warning(
                f"A job {who} went to {ticket.cluster} on {ticket.host}, where it cannot be seen from here; it is "
                "submitted again."
            )
            return None
        job_id = ticket.job_id or self._unknown_id(ticket)
        if job_id is None:
            return None
        state = (self._states or {}).get(job_id)
        outcome = outcome_of(self._cluster.paths(ticket.name, job_id))
        if not read_the_same(ticket, plan.ticket):
            self._logger.info(f"Job {job_id} {who} read other inputs; it is run again.")
            self._end(job_id)
            return None
        if outcome is not None and outcome.success:
            expected = [path for path in ticket.outputs if not _may_be_gone(plan.job, path)]
            if all(os.path.lexists(path) for path in expected):
                return job_id
            self._logger.info(f"Job {job_id} {who} has lost its outputs; it is run again.")
            return None
        if state is not None and not state.alive:
            reason = outcome.message if outcome else state.word.lower()
            self._logger.info(f"Job {job_id} {who} failed ({reason}); it is run again.")
            return None
        return job_id

    def _end(self, job_id: str) -> None:
        """Cancel a job and wait for its end: its successor writes the same files."""
        end = time.monotonic() + LONGEST_END_S
        try:
            self._cluster.cancel([job_id])
            while (state := self._cluster.states([job_id]).get(job_id)) is not None and state.alive:
                if time.monotonic() > end:
                    raise WorkflowError(f"Job {job_id} of an earlier run is outdated, was cancelled and does not end.")
                time.sleep(CLAIM_POLL_S)
        except SchedulerUnavailable as error:
            raise WorkflowError(
                f"Job {job_id} of an earlier run is outdated and cannot be cancelled: {error}."
            ) from error

    def _unknown_id(self, ticket: Ticket) -> str | None:
        """Find a job whose submitter was killed before it learnt the id."""
        wait = CLAIM_GRACE_S - (time.time() - ticket.created) if ticket.cluster == "local" else 0.0
        while True:
            claimed = self._tickets.claimed_id(ticket)
            if claimed is not None:
                return claimed
            if wait <= 0:
                break
            time.sleep(CLAIM_POLL_S)
            wait -= CLAIM_POLL_S
        base = self._cluster.find(ticket.name)
        return base if base is None else ticket.full_id(base)

    def _look_around(self) -> dict[str, JobState]:
        """Ask once for the states of all jobs that have a ticket."""
        mine = [t for t in self._tickets.read_all() if t.cluster == self._cluster.name and t.job_id is not None]
        for ticket in mine:
            self._cluster.attach(str(ticket.job_id), started=ticket.process_started)
        self._settle(mine)
        try:
            return self._cluster.states([str(ticket.job_id) for ticket in mine]) if mine else {}
        except SchedulerUnavailable as error:
            self._logger.warning(f"The scheduler does not answer: {error}. Jobs of an earlier run are waited for.")
            return {}

    def _settle(self, tickets: Iterable[Ticket]) -> None:
        """Forget the jobs that have done what they were for; first have those recorded that nobody has.

        A direct job that need not run was recorded by a Snakemake that died before it had removed the ticket. A nested
        one has declared its outputs complete by itself, but provenance (code, parameters) is only written by a main
        process; without it later changes would go unnoticed.
        """
        needed = set(self._workflow.dag.needrun_jobs())
        idle = {tuple(sorted(map(str, job.output))): job for job in self._workflow.dag.jobs if job not in needed}
        for ticket in tickets:
            job = idle.get(tuple(ticket.outputs))
            if job is None:
                continue
            outcome = outcome_of(self._cluster.paths(ticket.name, str(ticket.job_id)))
            if outcome is None or not outcome.success:
                continue
            if ticket.nested:
                if self._planner.plan(job).ticket.key != ticket.key:
                    continue
                self._workflow.async_run(self._workflow.persistence.finished(job))
            self._tickets.remove(ticket)


def _may_be_gone(job: Any, path: str) -> bool:
    """Return whether an output may rightly be missing: Snakemake is to touch it, or only a group's members use it."""
    if job.is_group():
        return path not in {str(f) for f in job.output}
    return path in {str(f) for f in job.touch_output}
