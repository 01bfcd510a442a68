"""What bounds the jobs of a call: this machine's cores and GPUs where they run here, nothing of it on a cluster.

Snakemake puts `profiles/default` over any ``--profile``, so that its ``cores: all`` would cut the threads of jobs on a
cluster down to the cores of the login node.
"""

from __future__ import annotations

from typing import Any

from snakemake.resources import Resource
from snakemake.utils import available_cpu_count

GPUS_HERE = 1
"""GPU jobs at a time on this machine where nobody says ``--resources gpu=N``: jobs choose no GPU themselves."""

DEFAULT_RATE = (100, 1)
"""Jobs and seconds of Snakemake's ``--max-jobs-per-timespan`` where nobody says it."""


def set_bounds(workflow: Any) -> None:
    """Bound Snakemake's ``workflow``, whose executor need not be known yet.

    What a person asked for with ``--cores N`` or ``--resources gpu=N`` stays, and what a job's own Snakemake was given.
    """
    if not workflow.is_main_process:
        return
    bounds = workflow.global_resources
    if bounds["_cores"].value == available_cpu_count():  # `all`
        bounds["_cores"] = OfThisMachine("_cores", bounds["_cores"].value, workflow)
    if "gpu" not in bounds:
        bounds["gpu"] = OfThisMachine("gpu", GPUS_HERE, workflow)


def lift_default_rate(workflow: Any) -> None:
    """Take Snakemake's default limit of 100 jobs a second from a ``workflow`` that is about to start its jobs.

    To keep it, Snakemake 9 looks at all jobs that wait again a second after each look, and a job's end begins another
    such chain: after 100 jobs, it looks 100 times a second (measured on 2 cores: 31 % of a core after 80 of 346 jobs).
    A limit that a person gave stays.
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == DEFAULT_RATE:
        workflow.scheduler.job_rate_limiter = None


class OfThisMachine(Resource):
    """A bound that only holds for jobs on this machine."""

    def __init__(self, name: str, value: int | None, workflow: Any) -> None:
        super().__init__(name, value)
        self._workflow = workflow

    @property
    def value(self) -> int | str | None:
        """The bound; None is no bound."""
        return super().value if runs_here(self._workflow) else None


def runs_here(workflow: Any) -> bool:
    """Whether jobs are processes of this machine. A dry run shows what they ask for, wherever that will be."""
    if workflow.dryrun:
        return False
    resolved_cluster = getattr(workflow.executor_settings, "resolved_cluster", None)
    if resolved_cluster is not None:  # the submitit executor
        return bool(resolved_cluster() != "slurm")
    return bool(workflow.local_exec)
