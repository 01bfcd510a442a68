"""A training small enough for tests: a two-block ViT on images drawn from seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino.config import RunConfig
from dino.models import build_networks
from dino.running.distributed import World
from dino.running.resumable import Runner, Running
from dino.running.signals import StopRequest
from dino.training.pretraining import Pretraining
from dino.training.schedules import build_schedules
from dino.training.step import TrainStep

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 4


def tiny_config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "arch": "vit_nano",
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "global_crop_size": 8,
        "local_crop_size": 4,
        "num_local_crops": 2,
        "out_dim": 32,
        "head_hidden_dim": 24,
        "head_bottleneck_dim": 12,
        "batch_size": 8,
        "epochs": 3,
        "warmup_epochs": 1,
        "warmup_teacher_temp_epochs": 2,
        "drop_path_rate": 0.1,
        "base_lr": 0.05,
    }
    return RunConfig(**{**values, **changes})


class TinyLoader:
    """Seeded views; the same global batch however many ranks and micro-batches share it."""

    def __init__(self, config: RunConfig, world: World | None = None, *, poison: int | None = None) -> None:
        self.config, self.world, self.poison = config, world or World(), poison
        self.steps_per_epoch = STEPS_PER_EPOCH
        self.digest = "tiny"

    def step_views(self, epoch: int, step: int) -> list[Tensor]:
        """The whole batch of a step: views (V, B, 3, h, w) of each group."""
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        config, batch = self.config, self.config.batch_size
        groups = [torch.randn(2, batch, 3, config.global_crop_size, config.global_crop_size, generator=generator)]
        if config.num_local_crops:
            side = config.local_crop_size
            groups.append(torch.randn(config.num_local_crops, batch, 3, side, side, generator=generator))
        if self.poison == epoch * STEPS_PER_EPOCH + step:
            groups[0][0, 0, 0, 0, 0] = float("nan")
        return groups

    def iterate(self, epoch: int, start: int) -> Iterator[list[Tensor]]:
        parts = self.config.accumulate_steps
        for number in range(start, self.steps_per_epoch * parts):
            groups = self.step_views(epoch, number // parts)
            position = (number % parts) * self.world.world_size + self.world.rank
            share = self.config.batch_size // (parts * self.world.world_size)
            rows = slice(position * share, (position + 1) * share)
            yield [group[:, rows].flatten(0, 1) for group in groups]


def tiny_step(config: RunConfig, seed: int = 0) -> TrainStep:
    torch.manual_seed(seed)
    student, teacher = build_networks(config)
    return TrainStep(config, student, teacher, build_schedules(config, STEPS_PER_EPOCH), device=CPU)


def run_steps(
    step: TrainStep, count: int, *, first: int = 0, stats: bool = False
) -> list[tuple[float, dict[str, Any]]]:
    """Run consecutive steps on the tiny loader."""
    loader, results = TinyLoader(step.config), []
    for index in range(first, first + count):
        epoch, within = divmod(index, STEPS_PER_EPOCH)
        batches = loader.iterate(epoch, within * step.config.accumulate_steps)
        loss, values = step(index, batches, with_stats=stats)
        results.append((float(loss), {name: float(value) for name, value in values.items()}))
    return results


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def tiny_training(
    config: RunConfig,
    run_dir: Path,
    *,
    poison: int | None = None,
    world: World | None = None,
    snapshots: int = 0,
    **settings: Any,
) -> Runner[Pretraining]:
    settings = {"progress": False, "log_every": 3, **settings}
    loader = TinyLoader(config, world, poison=poison) if config.epochs else None
    running = Running(run_dir=run_dir, device=CPU, world=world or World(), **settings)
    return Runner(Pretraining(config, loader, running, snapshots=snapshots))


def train(config: RunConfig, run_dir: Path, **options: Any) -> Runner[Pretraining]:
    training = tiny_training(config, run_dir, **options)
    training.run(StopRequest())
    return training


def equal_bits(a: Any, b: Any) -> bool:
    """Deep equality, tensors by bits (NaN equals itself)."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal_bits, a, b))
    return bool(a == b)
