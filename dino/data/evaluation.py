"""Images for feature extraction (paper.md, C.1): short side resized (bicubic), centre crop, normalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dino.data.augment import MEAN, STD
from dino.data.datasets import MEMORY_BUDGET, ImageSet, load_in_memory
from dino.data.decode import CorruptImage


@dataclass(frozen=True)
class EvalBatch:
    """Some images of a split, in its order."""

    images: Tensor
    """(b, 3, crop, crop) float32, normalised, on the device asked for."""
    labels: Tensor
    """(b,) int64, on the CPU."""
    paths: list[str]


class EvalImages:
    """Iterates a split in order. Corrupt files are left out: `skipped` lists them after the iteration.

    Small sets of equal-size images are decoded once and prepared whole batches at a time; others are read by
    ``workers`` processes, one image at a time.
    """

    def __init__(
        self,
        dataset: ImageSet,
        *,
        resize: int,
        crop: int,
        batch_size: int,
        workers: int = 0,
        device: torch.device | str = "cpu",
        budget: int = MEMORY_BUDGET,
    ) -> None:
        """Resize the short side to ``resize`` pixels and cut the central ``crop`` (256 and 224 in the paper)."""
        if crop > resize:
            raise ValueError(f"crop ({crop}) exceeds resize ({resize})")
        self.dataset = dataset
        self.resize, self.crop, self.batch_size, self.workers = resize, crop, batch_size, workers
        self.device = torch.device(device)
        self._memory = load_in_memory(dataset, budget=budget, replace=False)
        std = torch.tensor(STD, device=self.device)
        self._scale = (1 / (255 * std)).view(3, 1, 1)
        self._shift = (-torch.tensor(MEAN, device=self.device) / std).view(3, 1, 1)

    def __len__(self) -> int:
        """Images, including corrupt ones not met yet."""
        return len(self.dataset) if self._memory is None else len(self._memory[1])

    @property
    def skipped(self) -> list[str]:
        """A message for each corrupt file met so far."""
        return self.dataset.skipped

    def __iter__(self) -> Iterator[EvalBatch]:
        if self._memory is not None:
            pixels, indices = self._memory
            for part in torch.arange(len(pixels)).split(self.batch_size):
                yield self._batch(resize_and_crop(pixels[part], self.resize, self.crop), indices[part].tolist())
            return
        waiting: list[Tensor] = []
        numbers: list[int] = []
        for index, image, message in self._read_all():
            if image is None:
                self.dataset.note_skipped([message])
                continue
            waiting.append(image)
            numbers.append(index)
            if len(waiting) == self.batch_size:
                yield self._batch(torch.stack(waiting), numbers)
                waiting, numbers = [], []
        if waiting:
            yield self._batch(torch.stack(waiting), numbers)

    def _batch(self, pixels: Tensor, indices: list[int]) -> EvalBatch:
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        images = pixels.to(self.device, non_blocking=True).float().mul_(self._scale).add_(self._shift)
        labels = torch.from_numpy(self.dataset.labels[indices])
        return EvalBatch(images=images, labels=labels, paths=[self.dataset.paths[index] for index in indices])

    def _read_all(self) -> Iterator[tuple[int, Tensor | None, str]]:
        one_by_one = _OneByOne(self.dataset, self.resize, self.crop)
        if self.workers == 0:
            for index in range(len(one_by_one)):
                yield one_by_one[index]
            return
        # Its own generator: a loader without one would advance the global random state.
        loader = torch.utils.data.DataLoader(
            one_by_one, batch_size=None, num_workers=self.workers, prefetch_factor=16, generator=torch.Generator()
        )
        yield from loader


class _OneByOne(torch.utils.data.Dataset[tuple[int, Tensor | None, str]]):
    def __init__(self, images: ImageSet, resize: int, crop: int) -> None:
        self.images, self.resize, self.crop = images, resize, crop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        try:
            image = self.images.read(index)
        except CorruptImage as error:
            return index, None, str(error)
        return index, resize_and_crop(planar(image), self.resize, self.crop)[0], ""


def planar(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) array to a (1, 3, H, W) tensor, without a copy: what torch's fast uint8 resampling wants."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def resize_and_crop(pixels: Tensor, resize: int, crop: int) -> Tensor:
    """Short side to ``resize`` (bicubic, antialiased), then the central ``crop``: (n, 3, H, W) uint8 -> uint8.

    Sizes and offsets round as torchvision's Resize and CenterCrop do; torch's uint8 kernel is Pillow's within 2/255.
    """
    height, width = pixels.shape[-2:]
    short, long = min(height, width), max(height, width)
    if short != resize:
        far = int(resize * long / short)
        size = (far, resize) if height > width else (resize, far)
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True)
        height, width = size
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return pixels[..., top : top + crop, left : left + crop]
