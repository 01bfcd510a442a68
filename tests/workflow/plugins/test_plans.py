"""Which jobs share one submission."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from snakemake_executor_plugin_submitit.plans import CommandLine, JobPlan, batches, unique_name
from snakemake_executor_plugin_submitit.resources import Request
from snakemake_executor_plugin_submitit.settings import ExecutorSettings


def plan(rule: str = "knn", *, group: bool = False, nested: bool = False, **asked: Any) -> JobPlan:
    return JobPlan(
        job=SimpleNamespace(is_group=lambda: group),
        request=Request(**{"runtime_min": 10, "cpus_per_task": 1, **asked}),
        line=CommandLine(command="true", shell="/bin/sh", nested=nested, identity="true"),
        ticket=SimpleNamespace(rule=rule),  # type: ignore[arg-type]
    )


def sizes(plans: list[JobPlan], **settings: Any) -> list[int]:
    return [len(batch) for batch in batches(plans, ExecutorSettings(**settings))]


def test_the_knn_of_forty_checkpoints_is_one_submission() -> None:
    assert sizes([plan() for _ in range(40)]) == [40]


def test_jobs_of_other_rules_or_with_other_resources_are_submitted_apart() -> None:
    plans = [plan(), plan("linear"), plan(), plan(mem_mb=100), plan("linear"), plan(nested=True)]
    assert sizes(plans) == [2, 2, 1, 1]


def test_an_array_has_at_most_as_many_jobs_as_slurm_takes() -> None:
    assert sizes([plan() for _ in range(25)], array_size=10) == [10, 10, 5]


def test_groups_and_rules_without_arrays_are_submitted_one_by_one() -> None:
    assert sizes([plan(group=True), plan(group=True)]) == [1, 1]
    assert sizes([plan(), plan()], arrays="none") == [1, 1]
    assert sizes([plan(), plan(), plan("linear"), plan("linear")], arrays="linear") == [1, 1, 2]


def test_names_are_readable_and_never_come_again() -> None:
    names = [unique_name("eval uate/knn") for _ in range(2)]
    assert names[0] != names[1]
    assert all(name.startswith("eval_uate_knn-") for name in names)
