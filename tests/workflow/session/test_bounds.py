"""Cores and GPUs of this machine bound the jobs that run on it, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.cli import get_argument_parser
from snakemake.resources import Resource, Resources
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan
from snakemake.utils import available_cpu_count
from snakemake_executor_plugin_submitit import ExecutorSettings

from workflow.session.bounds import DEFAULT_RATE, lift_default_rate, set_bounds

CORES = available_cpu_count()


def bounded(cores: int = CORES, main: bool = True, **gpus: int) -> Any:
    """A workflow as the Snakefile finds it: bounds given, executor not known yet."""
    bounds = Resources.from_mapping({"_cores": cores, **gpus})
    workflow = SimpleNamespace(
        global_resources=bounds, is_main_process=main, dryrun=False, executor_settings=None, local_exec=True
    )
    set_bounds(workflow)
    return workflow


def ask(workflow: Any, name: str, value: int) -> int | str | None:
    """What becomes of a job's request."""
    return Resource(name, value).constrain(workflow.global_resources.get(name)).value


def test_jobs_of_this_machine_share_its_cores_and_one_gpu() -> None:
    workflow = bounded()
    assert (ask(workflow, "_cores", CORES + 8), ask(workflow, "gpu", 8)) == (CORES, 1)


@pytest.mark.parametrize(
    "changes",
    [{"dryrun": True}, {"local_exec": False}, {"executor_settings": ExecutorSettings(), "local_exec": False}],
)
def test_jobs_elsewhere_and_dry_runs_are_not_bounded(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.setattr(ExecutorSettings, "resolved_cluster", lambda self: "slurm")
    workflow = bounded()
    vars(workflow).update(changes)
    assert (ask(workflow, "_cores", CORES + 8), ask(workflow, "gpu", 8)) == (CORES + 8, 8)


def test_submitits_local_jobs_are_jobs_of_this_machine() -> None:
    workflow = bounded()
    workflow.executor_settings, workflow.local_exec = ExecutorSettings(cluster="local"), False
    assert (ask(workflow, "_cores", CORES + 8), ask(workflow, "gpu", 8)) == (CORES, 1)


def test_bounds_that_a_person_gave_hold_everywhere() -> None:
    workflow = bounded(cores=CORES + 4, gpu=4)
    workflow.local_exec = False
    assert (ask(workflow, "_cores", CORES + 8), ask(workflow, "gpu", 8)) == (CORES + 4, 4)


def test_a_jobs_own_snakemake_keeps_what_it_was_given() -> None:
    workflow = bounded(main=False)
    assert "gpu" not in workflow.global_resources
    assert ask(workflow, "_cores", CORES + 8) == CORES


@pytest.mark.parametrize(("limit", "stays"), [("100/1s", False), ("100/1m", True), ("5/1s", True)])
def test_only_the_default_rate_of_jobs_is_lifted(limit: str, stays: bool) -> None:
    scheduler = SimpleNamespace(job_rate_limiter=JobRateLimiter(MaxJobsPerTimespan.parse_choice(limit)))
    lift_default_rate(SimpleNamespace(scheduler=scheduler))
    assert (scheduler.job_rate_limiter is not None) == stays


def test_default_rate_is_snakemakes() -> None:
    default = MaxJobsPerTimespan.parse_choice(get_argument_parser().get_default("max_jobs_per_timespan"))
    assert (default.max_jobs, default.timespan) == DEFAULT_RATE
