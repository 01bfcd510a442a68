"""What the commands that train share: options, device, ranks and the run directory. No torch at import."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dino.errors import UserError
from dino.log import logger

if TYPE_CHECKING:
    import torch

    from dino.running.distributed import World
    from dino.running.resumable import Running
    from dino.running.signals import StopRequest

LEAST = {
    "workers": 0,
    "threads": 1,
    "checkpoint_minutes": 0,
    "checkpoint_every_epochs": 1,
    "log_every": 1,
    "snapshots": 0,
}
"""Smallest values that make sense."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """When a training saves and logs; `set_up` reads it."""
    parser.add_argument("--checkpoint-minutes", type=float, default=30.0, help="longest time between checkpoints")
    parser.add_argument("--checkpoint-every-epochs", type=int, default=1, help="epochs between checkpoints")
    parser.add_argument("--log-every", type=int, help="steps between logged points (default: about 300 points a run)")


def set_up(options: argparse.Namespace, run_dir: Path) -> Running:
    """This process's device, threads and rank, as the command line and the launcher say, for a training in ``run_dir``.

    Raises:
        UserError: They cannot be had.
    """
    import torch

    from dino.running.distributed import find_world
    from dino.running.process import configure_process
    from dino.running.resumable import Running

    world = find_world()
    if not world.is_main:
        logger.setLevel("WARNING")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device, world)
    configure_process(device)
    return Running(
        run_dir=run_dir,
        device=device,
        world=world,
        checkpoint_minutes=options.checkpoint_minutes,
        checkpoint_every_epochs=options.checkpoint_every_epochs,
        log_every=options.log_every,
    )


@contextlib.contextmanager
def with_all_ranks(running: Running, stop: StopRequest) -> Iterator[None]:
    """Run the body on all ranks, alone in the run directory: rank 0 holds it for all, who wait in the process group."""
    from dino.running.distributed import start_process_group, stop_process_group
    from dino.running.locks import sole_owner

    assert running.run_dir is not None
    with sole_owner(running.run_dir, stop=stop) if running.world.is_main else contextlib.nullcontext():
        start_process_group(running.world, running.device)
        try:
            yield
        finally:
            stop_process_group()


def check_numbers(options: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, by the option's name.

    Raises:
        UserError: One of them.
    """
    for name, least in LEAST.items():
        value = getattr(options, name, None)
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value:g}")


def default_workers(device: torch.device) -> int:
    """Reading processes of a rank: on a CPU none, since they would take training's own cores; else the cores to spare.

    At most 10, the authors' default; sets kept in memory use none.
    """
    if device.type == "cpu":
        return 0
    return max(1, min(10, (os.cpu_count() or 1) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) - 1))


def choose_device(name: str, world: World) -> torch.device:
    """``auto`` takes a GPU where there is one; each rank its own.

    Raises:
        UserError: A GPU was asked for, or a rank needs one, and there is none.
    """
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu")
    index = 0 if count == 1 else world.local_rank  # a launcher may show each rank its own GPU only
    if index >= count or (count == 1 and world.local_rank > 0 and "CUDA_VISIBLE_DEVICES" not in os.environ):
        raise UserError(f"local rank {world.local_rank} has no GPU: this machine shows {count}; start fewer ranks")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device
