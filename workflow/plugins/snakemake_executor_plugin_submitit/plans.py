"""From a Snakemake job to a plan of its submission: identity, request, command line, payload."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

from .clusters import Cluster, this_host
from .commands import CommandLine, direct_command, nested_command, reason_for_nesting
from .payload import RuleCommand
from .resources import Request, request_from_resources
from .settings import ExecutorSettings
from .tickets import Ticket, TicketStore, input_state, job_key


@dataclass
class Plan:
    """A job together with everything that its submission needs."""

    job: Any
    request: Request
    line: CommandLine
    ticket: Ticket


class Planner:
    """Makes plans; the working directory is the one in which it is made."""

    def __init__(
        self,
        *,
        workflow: WorkflowExecutorInterface,
        settings: ExecutorSettings,
        cluster: Cluster,
        tickets: TicketStore,
        nested_call: Callable[[Any], str],
    ) -> None:
        self._workflow = workflow
        self._settings = settings
        self._cluster = cluster
        self._tickets = tickets
        self._nested_call = nested_call
        self._directory = os.getcwd()

    def plan(self, job: Any) -> Plan:
        """Return the plan of a job or group; nothing is written or submitted.

        Raises:
            WorkflowError: for resources that cannot be meant, or that this cluster or a nested Snakemake cannot serve.
        """
        rule = job.name
        singles = list(job.jobs) if job.is_group() else [job]
        nesting = reason_for_nesting(job, self._workflow)
        if self._settings.direct == "off":
            nesting = nesting or "--submitit-direct is off"
        request = request_from_resources(
            rule=rule,
            resources=dict(job.resources.items()),
            threads=job.threads,
            default_runtime_min=self._settings.default_runtime,
        )
        self._cluster.check(request, rule=rule)
        if nesting and request.tasks > 1:
            raise WorkflowError(
                f"Rule {rule} asks for {request.tasks} tasks, but needs a nested Snakemake ({nesting}); each task "
                "would run the whole rule. Give it a plain shell: command."
            )
        line = nested_command(job, self._nested_call(job)) if nesting else direct_command(job)
        outputs = sorted(str(f) for single in singles for f in single.output)
        key = job_key(
            directory=self._directory,
            rule=job.groupid if job.is_group() else rule,
            wildcards={} if job.is_group() else dict(job.wildcards_dict or {}),
            outputs=outputs,
            command=line.identity,
            params=[value for single in singles for value in single.non_derived_params],
        )
        ticket = Ticket(
            key=key,
            name=unique_name(rule),
            cluster=self._cluster.name,
            host=this_host(),
            tasks=request.tasks,
            rule=rule,
            outputs=outputs,
            inputs=input_state(f for f in job.input if not f.is_storage),
            nested=line.nested,
        )
        return Plan(job=job, request=request, line=line, ticket=ticket)

    def payload(self, plan: Plan) -> RuleCommand:
        """Return what submitit is to run for a plan under its present ticket."""
        ticket = plan.ticket
        return RuleCommand(
            command=plan.line.command,
            shell=plan.line.shell,
            directory=self._directory,
            claim=str(self._tickets.claim_path(ticket.name, ticket.index)),
            runtime_min=plan.request.runtime_min,
            requeues_left=self._settings.max_requeues,
            threads=plan.line.threads,
            tmpdir=plan.line.tmpdir,
        )


def batches(plans: Sequence[Plan], settings: ExecutorSettings) -> list[list[Plan]]:
    """Divide plans into submissions: jobs of one rule with equal requests together, as far as arrays are allowed."""
    groups: dict[Any, list[Plan]] = {}
    for position, plan in enumerate(plans):
        alone = plan.job.is_group() or not settings.may_be_array(plan.ticket.rule)
        key = position if alone else (plan.ticket.rule, plan.request, plan.line.nested)
        groups.setdefault(key, []).append(plan)
    size = settings.array_size
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def unique_name(rule: str) -> str:
    """Return a name for the queue and for a folder, which people can read and which never comes again."""
    readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in rule)
    return f"{readable[:60]}-{uuid.uuid4().hex[:12]}"
