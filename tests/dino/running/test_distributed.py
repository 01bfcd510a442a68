from __future__ import annotations

import pytest

from dino.errors import UserError
from dino.running.distributed import World, find_world, first_host, rendezvous

SLURM = {"SLURM_JOB_ID": "123456", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}


def test_without_a_launcher_there_is_one_process() -> None:
    assert find_world({}) == World(0, 1, 0)
    assert find_world({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}) == World()  # an interactive allocation


def test_torchrun_variables_come_first() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **SLURM}
    assert find_world(environment) == World(3, 4, 1)


def test_slurm_tasks_are_ranks() -> None:
    assert find_world(SLURM) == World(5, 8, 1)


def test_a_slurm_step_of_fewer_tasks_than_the_job_counts_its_own() -> None:
    step = {**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    assert find_world(step) == World(0, 1, 0)


@pytest.mark.parametrize("bad", [{"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "one", "WORLD_SIZE": "4"}])
def test_contradictory_variables_are_named(bad: dict[str, str]) -> None:
    with pytest.raises(UserError, match="RANK"):
        find_world(bad)


def test_ranks_meet_where_the_launcher_says_or_on_the_first_host_of_the_job() -> None:
    assert rendezvous({"MASTER_ADDR": "a", "MASTER_PORT": "5", **SLURM}) == ("a", 5)
    assert rendezvous({"SLURM_JOB_NODELIST": "gpu[003-005],x1", **SLURM}) == ("gpu003", 10000 + 123456 % 20000)
    with pytest.raises(UserError, match="MASTER_ADDR"):
        rendezvous({})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[003-005,009],x1", "gpu003"),
        ("a-b[7],c", "a-b7"),
        ("r1-[2,4]", "r1-2"),
    ],
)
def test_first_host_of_a_slurm_node_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
