"""Randomly cropped training images of linear probes (paper.md, C.2): bilinear crops of 8-100 % of the area, mirrored.

A part of a batch is a pure function of (seed, epoch, batch, part), so that a resumed run sees the same bits with any
number of worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dino.data.augment import MATRIX_PIXELS, MEAN, STD, CropPlan, ViewKind, draw_crops
from dino.data.datasets import MEMORY_BUDGET, ImageSet, load_in_memory
from dino.data.resample import crop_resize, crop_resize_each
from dino.running.random_state import derive_seed

SCALE = (0.08, 1.0)
"""Share of the image's area, torchvision's default."""


@dataclass(frozen=True)
class CropPart:
    """Some images of a batch: as many as pass the backbone together."""

    images: Tensor
    """(b, 3, size, size) float32, normalised, on the device."""
    indices: Tensor
    """(b,) int64, on the CPU: what images they are of."""
    ends_batch: bool


class TrainCrops:
    """Iterates the epochs of a split. The last batch of an epoch may be smaller, as with the authors' loader.

    A set of equal-size images that fits the memory is decoded once and cut on the device; others are read and cut by
    ``workers`` processes. A corrupt file is left out of the former; in the latter its neighbour takes its place.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        size: int,
        batch_size: int,
        micro_batch: int,
        seed: int,
        device: torch.device,
        workers: int = 0,
        budget: int = MEMORY_BUDGET,
    ) -> None:
        self.images, self.device, self.workers, self.seed = images, device, workers, seed
        self._batch_size, self._micro_batch = batch_size, micro_batch
        memory = load_in_memory(images, budget=budget, replace=False)
        self._pixels = None if memory is None else memory[0].to(device)
        self._known = torch.arange(len(images)) if memory is None else memory[1]
        self.batches = -(-len(self._known) // batch_size)
        """Of an epoch."""
        self._kind = ViewKind(size, SCALE, blur=0.0, solarize=0.0)
        std = torch.tensor(STD, device=device)
        self._scale = (1 / std).view(3, 1, 1)
        self._shift = (-torch.tensor(MEAN, device=device) / std).view(3, 1, 1)

    def __len__(self) -> int:
        """Images of an epoch."""
        return len(self._known)

    def iterate(self, epoch: int, start: int = 0) -> Iterator[CropPart]:
        """The parts of the batches ``start``, ``start + 1``, ... of an epoch."""
        parts = self._parts(epoch, start)
        if self._pixels is not None:
            for part in parts:
                yield CropPart(self._cut(self._pixels, part), self._known[part.rows], part.ends_batch)
            return
        # Its own generator: a loader without one would advance the global random state.
        loader = torch.utils.data.DataLoader(
            _CutParts(self.images, self._kind, parts),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=2 if self.workers else None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )
        for part, (pixels, indices, messages) in zip(parts, loader, strict=True):
            self.images.note_skipped(messages)
            images = pixels.to(self.device, non_blocking=True).float().mul_(1 / 255)
            yield CropPart(self._normalised(images), indices, part.ends_batch)

    def _parts(self, epoch: int, start: int) -> list[_Part]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, f"order {epoch}"))
        order = torch.randperm(len(self._known), generator=generator)
        found = []
        for batch, rows in list(enumerate(order.split(self._batch_size)))[start:]:
            chunks = rows.split(self._micro_batch)
            for number, chunk in enumerate(chunks):
                seed = derive_seed(self.seed, f"crops {epoch}/{batch}/{number}")
                found.append(_Part(chunk, seed, number == len(chunks) - 1))
        return found

    def _cut(self, pixels: Tensor, part: _Part) -> Tensor:
        height, width = pixels.shape[-2:]
        plan = part.draw(self._kind)
        boxes = plan.boxes(torch.full((len(part.rows),), height), torch.full((len(part.rows),), width))
        if self.device.type == "cpu" and height * width > MATRIX_PIXELS:
            chosen = [pixels[row] for row in part.rows.tolist()]
            cut = crop_resize_each(chosen, boxes, size=plan.size, flip=plan.flip, kernel="bilinear")
            return self._normalised(cut.float().mul_(1 / 255))
        rows, boxes, flip = (each.to(self.device, non_blocking=True) for each in (part.rows, boxes, plan.flip))
        return self._normalised(crop_resize(pixels[rows], boxes, size=plan.size, flip=flip, kernel="bilinear"))

    def _normalised(self, images: Tensor) -> Tensor:
        return images.mul_(self._scale).add_(self._shift)


@dataclass(frozen=True)
class _Part:
    rows: Tensor
    seed: int
    ends_batch: bool

    def draw(self, kind: ViewKind) -> CropPlan:
        return draw_crops([kind], len(self.rows), torch.Generator().manual_seed(self.seed))


class _CutParts(torch.utils.data.Dataset[tuple[Tensor, Tensor, list[str]]]):
    """Work of the worker processes: decode the images of a part and cut them, as uint8."""

    def __init__(self, images: ImageSet, kind: ViewKind, parts: list[_Part]) -> None:
        self.images, self.kind, self.parts = images, kind, parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, list[str]]:
        part = self.parts[number]
        images, indices, messages = [], [], []
        for index in part.rows.tolist():
            image, problems = self.images.read_or_neighbour(index)
            images.append(torch.from_numpy(image).permute(2, 0, 1))
            indices.append((index + len(problems)) % len(self.images))
            messages += problems
        plan = part.draw(self.kind)
        boxes = plan.boxes(*(torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2)))
        cut = crop_resize_each(images, boxes, size=plan.size, flip=plan.flip, kernel="bilinear")
        return cut, torch.tensor(indices), messages
