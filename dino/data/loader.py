"""Micro-batches of multi-crop views for pretraining.

A micro-batch is a pure function of (seed, epoch, its number, rank): its images come from the epoch's permutation and
its crops and colours from a generator seeded by these four numbers. So a run resumed anywhere sees the same bits, with
any number of worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dino.config import RunConfig
from dino.data.augment import CropPlan, MultiCrop
from dino.data.datasets import MEMORY_BUDGET, ImageSet, load_in_memory, resolve_dataset
from dino.data.resample import crop_resize_each
from dino.errors import UserError

_ORDER, _CROPS, _COLORS = range(3)
"""Separate random streams, so that the photometric part is the same wherever the geometric one is done."""


class PretrainLoader:
    """View groups of one rank, by epoch and micro-batch. Made by `build_pretrain_loader`."""

    def __init__(
        self,
        config: RunConfig,
        dataset: ImageSet,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
        workers: int,
        budget: int,
    ) -> None:
        self.dataset = dataset
        self.device = device
        self.rank, self.world_size, self.workers = rank, world_size, workers
        self.seed = config.seed
        self.micro_batch = micro_batch_size(config, world_size)
        self.accumulate_steps = config.accumulate_steps
        self.steps_per_epoch = len(dataset) // config.batch_size
        """Optimizer steps; the last, incomplete batch is dropped."""
        if self.steps_per_epoch == 0:
            raise UserError(
                f"data set '{dataset.name}' has {len(dataset)} images, fewer than one batch of {config.batch_size}; "
                "choose a smaller batch_size or a larger set"
            )
        self.digest = dataset.digest
        self.augment = MultiCrop(config)
        memory = load_in_memory(dataset, budget=budget)
        # On the device they are cut and coloured without ever crossing the bus again.
        self._pixels = None if memory is None else memory[0].to(device)

    @property
    def micro_batches_per_epoch(self) -> int:
        """Micro-batches of this rank in an epoch."""
        return self.steps_per_epoch * self.accumulate_steps

    @property
    def skipped(self) -> list[str]:
        """A message for each corrupt file met so far, each replaced by its neighbour."""
        return self.dataset.skipped

    def indices(self, epoch: int, number: int) -> Tensor:
        """Images of micro-batch ``number`` of this rank: (B,) int64. Ranks and micro-batches never overlap."""
        return self._indices(self._permutation(epoch), number)

    def _permutation(self, epoch: int) -> Tensor:
        # The same on every rank: the rank is no part of this stream.
        return torch.randperm(len(self.dataset), generator=_generator(self.seed, _ORDER, epoch))

    def _indices(self, permutation: Tensor, number: int) -> Tensor:
        # Micro-batch i of all ranks lies together, so that one optimizer step covers one stretch of the permutation.
        start = (number * self.world_size + self.rank) * self.micro_batch
        return permutation[start : start + self.micro_batch]

    def iterate(self, epoch: int, start: int = 0) -> Iterator[list[Tensor]]:
        """Micro-batches ``start``, ``start + 1``, ... of an epoch.

        Yields:
            For each group of adjacent equal-size views (views * B, 3, size, size) float32, normalised, view-major,
            on the device.
        """
        permutation = self._permutation(epoch)
        numbers = range(start, self.micro_batches_per_epoch)
        if self._pixels is not None:
            for number in numbers:
                chosen = _to_device(self._indices(permutation, number), self.device)
                crops = self.augment.draw_crops(self.micro_batch, self._stream(_CROPS, epoch, number))
                colors = self.augment.draw_colors(self.micro_batch, self._stream(_COLORS, epoch, number))
                yield self.augment.from_images(self._pixels[chosen], crops, colors)
            return
        for number, (views, messages) in zip(numbers, self._cut(epoch, permutation, numbers), strict=True):
            self.dataset.note_skipped(messages)
            colors = self.augment.draw_colors(self.micro_batch, self._stream(_COLORS, epoch, number))
            yield self.augment.from_views([view.to(self.device, non_blocking=True) for view in views], colors)

    def _stream(self, purpose: int, epoch: int, number: int) -> torch.Generator:
        return _generator(self.seed, purpose, epoch, number, self.rank)

    def _cut(self, epoch: int, permutation: Tensor, numbers: range) -> Iterator[tuple[list[Tensor], list[str]]]:
        jobs = _CutMicroBatches(self, epoch, permutation, numbers)
        if self.workers == 0:
            for position in range(len(numbers)):
                yield jobs[position]
            return
        # Its own generator: a loader without one would advance the global random state.
        loader = torch.utils.data.DataLoader(
            jobs,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=2,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )
        yield from loader


class _CutMicroBatches(torch.utils.data.Dataset[tuple[list[Tensor], list[str]]]):
    """Work of the worker processes: decode each image once and cut all its views, as uint8."""

    def __init__(self, loader: PretrainLoader, epoch: int, permutation: Tensor, numbers: range) -> None:
        self.dataset, self.augment = loader.dataset, loader.augment
        self.indices = [loader._indices(permutation, number) for number in numbers]
        self.seeds = [(loader.seed, _CROPS, epoch, number, loader.rank) for number in numbers]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[list[Tensor], list[str]]:
        indices = self.indices[position].tolist()
        crops = self.augment.draw_crops(len(indices), _generator(*self.seeds[position]))
        return cut_views(self.dataset, indices, crops)


def cut_views(dataset: ImageSet, indices: list[int], crops: list[CropPlan]) -> tuple[list[Tensor], list[str]]:
    """Decode each image once and cut all its views.

    Returns:
        For each group (views * B, 3, size, size) uint8, view-major; and messages about corrupt files.
    """
    messages: list[str] = []
    images = []
    for index in indices:
        image, problems = dataset.read_or_neighbour(index)
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        messages += problems
    heights, widths = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
    views = [crop_resize_each(images, crop.boxes(heights, widths), size=crop.size, flip=crop.flip) for crop in crops]
    return views, messages


def _generator(*numbers: int) -> torch.Generator:
    """A generator seeded by a hash of ``numbers``."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed & (2**63 - 1))


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def micro_batch_size(config: RunConfig, world_size: int) -> int:
    """Images of one forward pass of one rank.

    Raises:
        UserError: The batch does not divide by ranks and accumulated micro-batches.
    """
    parts = world_size * config.accumulate_steps
    if config.batch_size % parts:
        raise UserError(
            f"batch_size {config.batch_size} is not divisible by {parts} "
            f"({world_size} processes x accumulate_steps {config.accumulate_steps})"
        )
    return config.batch_size // parts


def build_pretrain_loader(
    config: RunConfig,
    *,
    device: torch.device | str,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    budget: int = MEMORY_BUDGET,
) -> PretrainLoader:
    """The training split of the run's data set as micro-batches of views.

    Args:
        config: The run.
        device: Where views are made and delivered.
        rank: Of this process.
        world_size: Number of processes.
        workers: Processes that decode and cut images of sets too large for memory; 0 does it here. Never changes a bit
            of the result.
        budget: Bytes up to which a set of equal-size images is kept decoded.

    Raises:
        UserError: The set is missing or smaller than a batch, the batch does not divide, or the generated set on disk
            is not the version that the configuration names.
    """
    dataset = resolve_dataset(config.dataset, split="train")
    if config.dataset_version and dataset.version != config.dataset_version:
        raise UserError(
            f"the run wants version {config.dataset_version} of data set '{config.dataset}', {dataset.root} has "
            f"{dataset.version or 'none'}; let `snakemake` write the run's configuration again"
        )
    return PretrainLoader(
        config,
        dataset,
        device=torch.device(device),
        rank=rank,
        world_size=world_size,
        workers=workers,
        budget=budget,
    )
