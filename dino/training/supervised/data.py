"""Augmented, labelled batches by DeiT's recipe, from timm's pieces.

A micro-batch is a pure function of (seed, epoch, its number, rank), so that a resumed run sees the same bits. Timm
draws from Python's, NumPy's and torch's global generators: each image and batch seeds all three and puts them back.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from timm.data.auto_augment import AugmentOp, RandAugment, posterize
from torch import Tensor
from torch.nn import functional as F

from dino.data.augment import MEAN, STD
from dino.data.datasets import ImageSet
from dino.errors import UserError
from dino.running.distributed import World
from dino.running.random_state import derive_seed
from dino.training.supervised.recipe import LabelledSettings


class LabelledLoader:
    """Micro-batches of one rank: images (B, 3, S, S) and soft targets (B, classes), both on the device.

    Raises:
        UserError: The set has several labels an image or is smaller than a batch, the batch does not divide, or Mixup
            gets an odd one.
    """

    def __init__(
        self, settings: LabelledSettings, images: ImageSet, *, device: torch.device, world: World, workers: int
    ) -> None:
        self.settings, self.images, self.device, self.world, self.workers = settings, images, device, world, workers
        self.classes = len(images.classes)
        if images.labels.ndim != 1:
            raise UserError(f"data set '{images.name}' has several labels an image; training with labels needs one")
        parts = world.world_size * settings.accumulate_steps
        if settings.batch_size % parts:
            raise UserError(
                f"batch_size {settings.batch_size} does not divide among {world.world_size} ranks x "
                f"{settings.accumulate_steps} micro-batches"
            )
        self.micro_batch = settings.batch_size // parts
        self.steps_per_epoch = len(images) // settings.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"data set '{images.name}' has {len(images)} images, fewer than one batch of {settings.batch_size}; "
                "choose a smaller batch size"
            )
        self.digest = images.digest
        self._mixup = build_mixup(settings, self.classes)
        if self._mixup is not None and self.micro_batch % 2:
            raise UserError(f"Mixup needs an even batch for each rank and micro-batch, not {self.micro_batch}")
        self._augmented = _Augmented(settings, images)

    def indices(self, epoch: int) -> Tensor:
        """The epoch's images in order: every image of a random part of the set stands ``repeats`` times in a row.

        In a row, they go to neighbouring ranks and places of one batch, as with DeiT's sampler.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.settings.seed, f"order {epoch}"))
        order = torch.randperm(len(self.images), generator=generator)
        return order.repeat_interleave(self.settings.repeats)[: len(self.images)]

    def iterate(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches ``start``, ``start + 1``, ... of an epoch."""
        order = self.indices(epoch)
        numbers = range(start, self.steps_per_epoch * self.settings.accumulate_steps)
        jobs: list[list[tuple[int, int]]] = []
        for number in numbers:
            first = number * self.world.world_size * self.micro_batch + self.world.rank
            places = range(first, first + self.micro_batch * self.world.world_size, self.world.world_size)
            jobs.append([(place, int(order[place])) for place in places])
        self._augmented.epoch = epoch
        loader = torch.utils.data.DataLoader(
            self._augmented,
            batch_sampler=jobs,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )
        for number, (images, labels, messages) in zip(numbers, loader, strict=True):
            self.images.note_skipped(messages)
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            with isolated(derive_seed(self.settings.seed, f"mixup {epoch}/{number}", self.world.rank)):
                batch = self._targets(images, labels)
            yield batch

    def _targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self._mixup is not None:
            images, targets = self._mixup(images, labels)
            return images, targets.to(images.dtype)
        smoothing = self.settings.label_smoothing
        hot = F.one_hot(labels, self.classes).to(images.dtype)
        return images, hot * (1.0 - smoothing) + smoothing / self.classes


def build_mixup(settings: LabelledSettings, classes: int) -> Mixup | None:
    """Mixup and CutMix by timm, which smooth the labels too; None where both are off."""
    if settings.mixup == 0.0 and settings.cutmix == 0.0:
        return None
    return Mixup(
        mixup_alpha=settings.mixup,
        cutmix_alpha=settings.cutmix,
        switch_prob=settings.mixup_switch,
        label_smoothing=settings.label_smoothing,
        num_classes=classes,
    )


class _Augmented(torch.utils.data.Dataset[tuple[Tensor, int, list[str]]]):
    """Image ``index`` as it stands at a ``place`` of an epoch."""

    def __init__(self, settings: LabelledSettings, images: ImageSet) -> None:
        self.images, self.seed, self.epoch = images, settings.seed, 0
        transform = create_transform(
            settings.image_size,
            is_training=True,
            scale=settings.crop_scale,
            color_jitter=settings.color_jitter,
            auto_augment=settings.rand_augment or None,
            interpolation="bicubic",
            re_prob=settings.random_erasing,
            re_mode="pixel",
            mean=MEAN,
            std=STD,
        )
        _posterize_to_black(transform.transforms)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int, list[str]]:
        place, index = item
        pixels, messages = self.images.read_or_neighbour(index)
        with isolated(derive_seed(self.seed, f"augment {self.epoch}/{place}")):
            image = self.transform(Image.fromarray(pixels))
        return image, int(self.images.labels[(index + len(messages)) % len(self.images)]), messages


def _posterize_to_black(transforms: Iterable[object]) -> None:
    """Let RandAugment posterize to 0 bits, which is black, as it did when the recipe was made.

    At magnitude 10, which ``m9-mstd0.5`` reaches in 2 % of its draws, timm asks for 0 bits, which Pillow 13
    refuses.
    """
    for transform in transforms:
        for operation in transform.ops if isinstance(transform, RandAugment) else ():
            if isinstance(operation, AugmentOp) and operation.aug_fn is posterize:
                operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits_to_keep: int, **options: object) -> Image.Image:
    return posterize(image, bits_to_keep, **options) if bits_to_keep else Image.new(image.mode, image.size)


def _collate(samples: list[tuple[Tensor, int, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    images, labels, messages = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels), [line for lines in messages for line in lines]


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators, and put their states back at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - what timm draws from
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
