"""Watching submitted jobs: what they left, what the scheduler says, and what follows from both."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from submitit.core.utils import DelayedSubmission, JobPaths

from .clusters import Cluster
from .payload import RuleCommand
from .plans import JobPlan
from .settings import ExecutorSettings
from .states import RUNNING, JobState, JobStatus, Judgement, Outcome, failed_task, judge, outcome_of, refresh
from .tickets import TicketStore

STATES_PATIENCE_S = 2.0  # how long a poll waits for the scheduler's answer before it goes on without
POLL_FAILURES = 20  # unexpected errors in a row over one job, after which it counts as failed
LOCAL_RUNS = 6  # how often submitit's local controller runs the tasks of a job before it gives up


@dataclass(eq=False)
class Flight:
    """A submitted job that Snakemake waits for. Times are of the monotonic clock."""

    info: SubmittedJobInfo
    plan: JobPlan
    job_id: str
    error_seen: float | None = None  # when an error result was first read
    in_question_since: float | None = None  # since when the scheduler's answers do not say "running"
    errors: int = 0
    resumed_at: int = 0  # local cluster: interruptions before the present controller process


class Watcher:
    """Judges flights. Its methods run in Snakemake's poll thread, must not raise and must not wait long."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        settings: ExecutorSettings,
        tickets: TicketStore,
        latency_s: float,
        warn: Callable[[str], Any],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._tickets = tickets
        self._latency_s = latency_s
        self._warn = warn
        self._told: set[str] = set()
        self._states: dict[str, JobState] = {}
        self._asked = -1e9  # monotonic time of the last question to the scheduler,
        self._asked_of_answer = -1e9  # of the question that was last answered,
        self._answered = -1e9  # and of that answer
        self._query: asyncio.Task[dict[str, JobState]] | None = None

    async def look(
        self, flights: Sequence[Flight], limiter: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> list[Judgement]:
        """Return a judgement for each flight; ``limiter`` bounds the rate of questions to the scheduler."""
        for folder in {self.paths(flight).folder for flight in flights}:
            refresh(folder)
        outcomes = [self._outcome(flight) for flight in flights]
        unfinished = [flight.job_id for flight, o in zip(flights, outcomes, strict=True) if o is None or not o.success]
        if unfinished:
            await self._ask(unfinished, limiter, urgent=any(o is not None and not o.success for o in outcomes))
        return [self._judge_safely(flight, outcome) for flight, outcome in zip(flights, outcomes, strict=True)]

    def paths(self, flight: Flight, task: int = 0) -> JobPaths:
        """Return submitit's files of one task of the job."""
        return self._cluster.paths(flight.plan.ticket.name, flight.job_id, task)

    def tasks(self, flight: Flight) -> list[JobPaths]:
        """Return submitit's files of all tasks."""
        return [self.paths(flight, task) for task in range(flight.plan.request.tasks)]

    def tell_once(self, message: str) -> None:
        """Warn, but not at every poll."""
        if message not in self._told:
            self._told.add(message)
            self._warn(message)

    def _outcome(self, flight: Flight) -> Outcome | None:
        try:
            return outcome_of(self.paths(flight))
        except Exception as error:  # a file system that hiccups must not end the run
            self.tell_once(f"Reading the result of job {flight.job_id}: {error!r}")
            return None

    async def _ask(
        self, job_ids: list[str], limiter: Callable[[], AbstractAsyncContextManager[Any]], *, urgent: bool
    ) -> None:
        """Keep one question to the scheduler under way when it is due, without waiting long for its answer."""
        interval = 0 if urgent or self._cluster.name != "slurm" else self._settings.accounting_interval
        if self._query is None and time.monotonic() - self._asked >= interval:
            async with limiter():
                self._asked = time.monotonic()
                self._query = asyncio.create_task(asyncio.to_thread(self._cluster.states, job_ids))
        if self._query is None:
            return
        await asyncio.wait([self._query], timeout=STATES_PATIENCE_S)
        if self._query.done():
            query, self._query = self._query, None
            try:
                self._states = query.result()
                self._asked_of_answer = self._asked
                self._answered = time.monotonic()
            except Exception as error:
                self.tell_once(f"The scheduler does not answer: {error}")

    def _judge_safely(self, flight: Flight, outcome: Outcome | None) -> Judgement:
        try:
            slurm = self._cluster.name == "slurm"
            judgement = self._judge_job(flight, outcome) if slurm else self._judge_process(flight, outcome)
            flight.errors = 0
        except Exception as error:
            flight.errors += 1
            self.tell_once(f"Watching job {flight.job_id}: {error!r}\n{traceback.format_exc()}")
            if flight.errors < POLL_FAILURES:
                return RUNNING
            return Judgement(JobStatus.FAILED, f"cannot be watched: {error!r}", cancel=True)
        return judgement

    def _judge_job(self, flight: Flight, outcome: Outcome | None) -> Judgement:
        """Judge a job of a scheduler, which may be slow, silent, or about to start the job again."""
        now = time.monotonic()
        failed = outcome is not None and not outcome.success
        flight.error_seen = (flight.error_seen or now) if failed else None
        if flight.error_seen is not None and self._asked_of_answer < flight.error_seen:
            return RUNNING  # the scheduler's answer is older than the error, and may be of an earlier run of the job
        state = self._states.get(flight.job_id)
        silent = now - self._answered > 3 * max(10, self._settings.accounting_interval)
        if silent or not (failed or state is None or not state.alive):
            flight.in_question_since = None  # healthy - or unknown, through no fault of the job
        elif flight.in_question_since is None:
            flight.in_question_since = now
        if outcome is None and state is not None and not state.alive:
            failure = failed_task(self.tasks(flight))  # task 0 may have been killed because another one failed
            outcome = Outcome(success=False, message=failure[1]) if failure else None
        since = flight.in_question_since
        memory = flight.plan.request.mem_mb
        judgement = judge(
            outcome=outcome,
            state=state,
            seconds_in_question=0.0 if since is None else now - since,
            latency_s=self._latency_s,
            lost_after_s=self._settings.lost_after,
            request=f"mem_mb={memory}" if memory else "",
            limit_min=flight.plan.request.runtime_min,
        )
        if judgement.stale_error:
            self.paths(flight).result_pickle.unlink(missing_ok=True)
        return judgement

    def _judge_process(self, flight: Flight, outcome: Outcome | None) -> Judgement:
        """Judge a local job, which needs no patience: its files are here and its process is seen."""
        state = self._states.get(flight.job_id)
        ended = state is not None and not state.alive
        if outcome is None and ended:
            outcome = outcome_of(self.paths(flight))  # it may have ended between the two looks
        if outcome is not None:
            return Judgement(JobStatus.SUCCEEDED if outcome.success else JobStatus.FAILED, outcome.message)
        request = flight.plan.request
        failed = failed_task(self.tasks(flight)) if request.tasks > 1 else None
        if failed is not None:
            return Judgement(JobStatus.FAILED, failed[1], cancel=True)  # nobody else ends the other tasks
        if not ended or self._resume(flight):
            return RUNNING
        if time.time() - flight.plan.ticket.created >= 60 * request.runtime_min:
            return Judgement(JobStatus.FAILED, f"time limit of {request.runtime_min} min reached")
        return Judgement(JobStatus.FAILED, state.detail if state else "")

    def _resume(self, flight: Flight) -> bool:
        """Start a local job again that was requeued as often as submitit's controller does it."""
        path = self.paths(flight).submitted_pickle
        if self._cluster.name != "local" or not path.exists():
            return False
        payload = DelayedSubmission.load(path).function
        if not isinstance(payload, RuleCommand) or payload.interruptions - flight.resumed_at < LOCAL_RUNS:
            return False
        ticket = flight.plan.ticket
        self._tickets.remove(ticket)  # with its claim, which names the old process
        self._tickets.write(ticket)
        [job_id] = self._cluster.submit([payload], flight.plan.request, name=ticket.name)
        ticket.job_id, ticket.process_started = job_id, self._cluster.started(job_id)
        self._tickets.write(ticket)
        flight.job_id = flight.info.external_jobid = job_id
        flight.resumed_at = payload.interruptions
        return True
