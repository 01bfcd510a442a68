"""Resources of rules become what is asked of submitit."""

from __future__ import annotations

import pytest
from snakemake_executor_plugin_submitit.resources import (
    Request,
    bounded_signal_delay,
    check_names,
    local_parameters,
    parse_extra,
    request_from_resources,
    slurm_parameters,
)
from snakemake_interface_common.exceptions import WorkflowError


def request(**resources: object) -> Request:
    return request_from_resources(rule="train", resources=resources, threads=4, default_runtime_min=90)


def parameters(**resources: object) -> dict[str, object]:
    return slurm_parameters(request(**resources), signal_delay_s=90, array_parallelism=7, setup="")


def test_every_resource_has_its_place() -> None:
    found = parameters(
        mem_mb=5000, runtime=600, gpu=8, nodes=2, tasks_per_node=8, slurm_partition="a100", slurm_account="lab",
        slurm_qos="long", slurm_constraint="ib", slurm_reservation="paper", slurm_extra="--mail-type=FAIL --exclusive",
        tmpdir="/tmp", _cores=4,
    )  # fmt: skip
    assert found == {
        "partition": "a100", "account": "lab", "qos": "long", "constraint": "ib", "time": 600, "nodes": 2,
        "ntasks_per_node": 8, "cpus_per_task": 4, "gpus_per_node": 8, "mem": "5000MB", "signal_delay_s": 90,
        "array_parallelism": 7, "srun_args": ["--cpus-per-task=4", "--kill-on-bad-exit=1"],
        "additional_parameters": {"reservation": "paper", "mail-type": "FAIL", "exclusive": True, "requeue": True},
    }  # fmt: skip


def test_a_rule_that_says_nothing_gets_the_default_time_and_its_threads() -> None:
    found = parameters()
    assert (found["time"], found["cpus_per_task"], found["nodes"], found["ntasks_per_node"]) == (90, 4, 1, 1)
    assert "mem" not in found
    assert "gpus_per_node" not in found


def test_submitit_knows_all_parameters() -> None:
    import inspect

    from submitit.slurm.slurm import _make_sbatch_string

    everything = parameters(gpu=1, mem_mb=1, **dict.fromkeys(("slurm_partition", "slurm_wckey", "slurm_gres"), "x"))
    assert set(everything) <= set(inspect.signature(_make_sbatch_string).parameters)


def test_an_unknown_slurm_name_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(WorkflowError, match=r"Rule train: unknown resource 'slurm_partion'.*'slurm_partition'"):
        request(slurm_partion="a100")
    with pytest.raises(WorkflowError, match="known names: slurm_partition, "):
        check_names("train", ["slurm_zzzzzzzzzzzz"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("-p a100", "long options"), ("a100", "long options"), ("--output=x", "--output"), ("--x='", "cannot read")],
)
def test_extra_refuses_what_it_cannot_pass_on(text: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        parse_extra("train", text)


def test_extra_takes_both_ways_to_give_a_value() -> None:
    assert parse_extra("train", "--nice=5 --comment 'two words' --exclusive") == {
        "nice": "5",
        "comment": "two words",
        "exclusive": True,
    }


def test_no_requeue_can_be_asked_for() -> None:
    assert parameters(slurm_extra="--no-requeue")["additional_parameters"] == {"no-requeue": True}


def test_a_gpu_model_is_named_with_the_number() -> None:
    found = parameters(gpu=2, gpu_model="a100")
    assert found["additional_parameters"] == {"gpus-per-node": "a100:2", "requeue": True}
    assert "gpus_per_node" not in found


def test_tasks_are_spread_over_nodes() -> None:
    assert request(nodes=2, tasks=8).tasks_per_node == 4
    for wrong in ({"nodes": 2, "tasks": 3}, {"nodes": 2, "tasks_per_node": 2, "tasks": 6}):
        with pytest.raises(WorkflowError, match="tasks="):
            request(**wrong)


@pytest.mark.parametrize("value", [0, -1, "many"])
def test_numbers_must_be_numbers(value: object) -> None:
    with pytest.raises(WorkflowError, match="Rule train: resource runtime="):
        request(runtime=value)


def test_memory_is_given_once() -> None:
    with pytest.raises(WorkflowError, match="either mem_mb or"):
        request(mem_mb=100, slurm_mem_per_cpu="1G")


def test_the_local_cluster_has_one_node() -> None:
    with pytest.raises(WorkflowError, match="Rule train asks for 2 nodes"):
        local_parameters(request(nodes=2), rule="train", signal_delay_s=90, setup="")
    found = local_parameters(request(tasks_per_node=2, gpu=1, runtime=1), rule="train", signal_delay_s=90, setup="")
    assert found == {"timeout_min": 1, "tasks_per_node": 2, "gpus_per_node": 1, "signal_delay_s": 30}


def test_the_warning_comes_after_the_start() -> None:
    assert bounded_signal_delay(1, 90) == 30
    assert bounded_signal_delay(60, 90) == 90
