"""From a Snakemake job to a plan of its submission: identity, request, command line, payload.

The command line is the rule's own shell line, or a nested Snakemake where the line alone would not do.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from snakemake.io import is_flagged
from snakemake.settings.types import DeploymentMethod, SharedFSUsage
from snakemake.shell import shell
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

from .clusters import Cluster, this_host
from .payload import RuleCommand
from .resources import Request, request_from_resources
from .settings import ExecutorSettings
from .tickets import Ticket, TicketStore, input_state, job_key

DEFAULT_TMPDIR = "system_tmpdir"  # Snakemake's expression for "whatever TMPDIR is on the node"


@dataclass(frozen=True)
class CommandLine:
    """What to run and how; ``identity`` is what makes two jobs for the same outputs the same job."""

    command: str
    shell: str
    nested: bool
    identity: str
    threads: int | None = None
    tmpdir: str | None = None


@dataclass
class JobPlan:
    """A job together with everything that its submission needs."""

    job: Any
    request: Request
    line: CommandLine
    ticket: Ticket


class JobPlanner:
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

    def plan(self, job: Any) -> JobPlan:
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
        return JobPlan(job=job, request=request, line=line, ticket=ticket)

    def payload(self, plan: JobPlan) -> RuleCommand:
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


def batches(plans: Sequence[JobPlan], settings: ExecutorSettings) -> list[list[JobPlan]]:
    """Divide plans into submissions: jobs of one rule with equal requests together, as far as arrays are allowed."""
    groups: dict[Any, list[JobPlan]] = {}
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


def reason_for_nesting(job: Any, workflow: WorkflowExecutorInterface) -> str | None:
    """Return why a job needs a nested Snakemake on the node; None where its shell line can be run as it is."""
    if job.is_group():
        return "it is a group"
    if not job.is_shell:
        return "it has no shell: directive"
    methods = workflow.deployment_settings.deployment_method
    shared = workflow.storage_settings.shared_fs_usage
    cached = workflow.workflow_settings.cache is not None and job.rule.cache
    reasons = (
        (job.is_shadow, "it has shadow:"),
        (job.benchmark is not None, "it has benchmark:"),
        (DeploymentMethod.CONDA in methods and job.conda_env_spec is not None, "it has conda:"),
        (DeploymentMethod.APPTAINER in methods and job.container_img_url is not None, "it has container:"),
        (DeploymentMethod.ENV_MODULES in methods and job.env_modules is not None, "it has envmodules:"),
        (bool(cached), "it is cached between workflows"),
        (SharedFSUsage.INPUT_OUTPUT not in shared, "inputs and outputs are not on a shared file system"),
        (any(f.is_storage for f in _files(job)), "it has files in a storage"),
        (any(is_flagged(f, kind) for f in _files(job) for kind in ("pipe", "service")), "it has pipes or services"),
        (_tmpdir(job) is None, "its tmpdir is computed on the node"),
        (job.resources.get("shell_exec") is not None, "it has a shell of its own"),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    return "its command is only known on the node" if "<TBD>" in job.shellcmd else None


def direct_command(job: Any) -> CommandLine:
    """Return the rule's shell line as Snakemake's own shell() would run it."""
    executable = shell.get_executable()
    parts = (shell._get_process_prefix(executable), job.shellcmd, shell._process_suffix)
    return CommandLine(
        command=" ".join(parts).strip(),
        shell=executable or "/bin/sh",
        nested=False,
        identity=job.shellcmd,
        threads=job.threads,
        tmpdir=_tmpdir(job) or None,
    )


def nested_command(job: Any, command: str) -> CommandLine:
    """Return the call of a nested Snakemake, built by Snakemake's ``format_job_exec``.

    It is started through :mod:`.nested`, so that a rule with ``retries:`` is not retried on the node as well: main
    and nested Snakemake together would run it n(n+1)/2 times.
    """
    words = " -m snakemake "
    if command.count(words) < 1:
        raise ValueError(f"unexpected command for a nested Snakemake: {command}")
    jobs = list(job.jobs) if job.is_group() else [job]
    return CommandLine(
        command=command.replace(words, " -m snakemake_executor_plugin_submitit.nested ", 1),
        shell=shell.get_executable() or "/bin/sh",
        nested=True,
        identity="\n".join(sorted(_code(single) for single in jobs)),
    )


def _code(job: Any) -> str:
    """Return the text that a job would run, for its identity: shell line, script and its content, or run: block."""
    if job.is_shell:
        return job.shellcmd
    source = job.rule.script or job.rule.notebook or job.rule.wrapper or job.rule.cwl
    if source is None:
        return job.rule.run_func_src or ""
    path = str(source)
    for candidate in (path, os.path.join(str(getattr(job.rule.basedir, "path", "") or ""), path)):
        if os.path.isfile(candidate):
            with open(candidate, encoding="utf-8", errors="replace") as file:
                return f"{path}\n{file.read()}"
    return path


def _tmpdir(job: Any) -> str | None:
    """Return the job's tmpdir, "" for the node's own, None where it must be evaluated on the node."""
    declared = job.rule.resources.get("tmpdir")
    if declared is None or declared.raw == DEFAULT_TMPDIR:
        return ""
    if declared.is_evaluable():
        return None
    return str(declared.value)


def _files(job: Any) -> Iterable[Any]:
    yield from job.input
    yield from job.output
    yield from job.log
