"""Which command line runs a Snakemake job on a node: the rule's own shell line, or a nested Snakemake."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from snakemake.io import is_flagged
from snakemake.settings.types import DeploymentMethod, SharedFSUsage
from snakemake.shell import shell
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

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
