"""Who else takes part in this run: ranks, their process group, and what they must agree on.

Ranks come from the launcher's environment: torchrun's (or anyone's) RANK, WORLD_SIZE and LOCAL_RANK, else Slurm's
SLURM_PROCID, SLURM_NTASKS and SLURM_LOCALID. LOCAL_RANK is read from the environment only, never from an argument
(paper.md, E.7; timm #1724).
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dino.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among the ranks."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and messages."""
        return self.rank == 0


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """The ranks that the environment describes; one process where it describes none.

    A Slurm job's own script runs once however many tasks the job has; srun's SLURM_STEP_NUM_TASKS, where set, says how
    many ranks there really are.

    Raises:
        UserError: The variables contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_PROCID" in environment:
        tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
        names = ("SLURM_PROCID", tasks, "SLURM_LOCALID")
    else:
        return World()
    try:
        world = World(*(int(environment.get(name, default)) for name, default in zip(names, "010", strict=True)))
    except ValueError:
        raise UserError(f"{', '.join(names)} in the environment must be whole numbers") from None
    if not 0 <= world.rank < world.world_size:
        raise UserError(f"{names[0]}={world.rank} does not fit {names[1]}={world.world_size} in the environment")
    return world


def rendezvous(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Where rank 0 listens: MASTER_ADDR and MASTER_PORT, else from Slurm's job: its first host, 10000 + job id % 20000.

    Raises:
        UserError: Neither is there.
    """
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if "SLURM_JOB_ID" in environment:
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "localhost")
        address = address or first_host(nodes)
        port = port or str(10000 + int(environment["SLURM_JOB_ID"]) % 20000)
    if not address or not port:
        raise UserError("several ranks need MASTER_ADDR and MASTER_PORT in the environment (torchrun sets them)")
    return address, int(port)


def first_host(nodes: str) -> str:
    """The first name of a Slurm node list: ``gpu[003-005,009],x1`` gives ``gpu003``."""
    match = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    if match is None:
        raise UserError(f"cannot read the Slurm node list '{nodes}'")
    return match[1] + (match[2] or "")


def start_process_group(world: World, device: torch.device) -> None:
    """Join the other ranks; nothing for one process. Small CPU tensors go over gloo even where NCCL does the rest."""
    if world.world_size == 1 or dist.is_initialized():
        return
    # A launcher that sets these may serve the store itself (torchrun does); env:// knows.
    ready = "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method="env://" if ready else "tcp://{}:{}".format(*rendezvous()),
        rank=world.rank,
        world_size=world.world_size,
        device_id=device if device.type == "cuda" else None,
    )


def stop_process_group() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of ranks of the running process group; 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(value: Tensor) -> Tensor:
    """``value`` summed over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def wait_for_all() -> None:
    """Return when all ranks have come here."""
    if world_size() > 1:
        dist.barrier()


def max_over_ranks(value: Tensor) -> Tensor:
    """The largest ``value`` of all ranks, element by element, in place."""
    if world_size() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather_over_ranks(value: Tensor) -> list[Tensor]:
    """A tensor of one size from each rank, in rank order."""
    if world_size() == 1:
        return [value]
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value)
    return parts


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any layer uses statistics of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def average_gradients(network: nn.Module, device: torch.device) -> nn.parallel.DistributedDataParallel:
    """``network`` with its gradients averaged over the ranks; statistics of batch norm are those of all already."""
    ddp = nn.parallel.DistributedDataParallel
    new_name = "forward_sync_buffers" in inspect.signature(ddp.__init__).parameters  # torch 2.13
    keep_buffers: dict[str, Any] = {"forward_sync_buffers" if new_name else "broadcast_buffers": False}
    devices = [device.index] if device.type == "cuda" else None
    return ddp(network, device_ids=devices, gradient_as_bucket_view=True, **keep_buffers)
