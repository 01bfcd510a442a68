"""Features of lists of whole images of any size: those of equal size go through the network together.

The authors show the network one image at a time where sizes differ. Grouped by size the features are the same, and a
batch is faster.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino.data.augment import MEAN, STD
from dino.data.decode import CorruptImage, decode
from dino.errors import UserError
from dino.evaluation.features.extraction import default_workers
from dino.evaluation.runtime import set_up_torch
from dino.log import logger, track
from dino.running.precision import autocast, full_precision_products

BATCHES_WAITING = 16
"""Full batches' worth of images that may wait for others of their size; beyond, the largest group goes as it is."""


class Preparation(Protocol):
    """What is done to a decoded image before the network sees it."""

    def __call__(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Image ``index`` of the list, (H, W, 3) uint8 in and out; `CorruptImage` where it cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """Some images of a data set."""

    what: str
    """For people: ``database``, ``queries``, ..."""
    root: Path
    paths: list[str]
    """Relative to ``root``."""
    prepare: Preparation
    prepared: str
    """What ``prepare`` and the network's input come to, in words: kept features are used again where it agrees."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Image ``index`` as the network sees it, before normalisation.

        The EXIF orientation is ignored, as the authors do: boxes count the stored pixels.

        Raises:
            CorruptImage: It cannot be read or used; the message names it.
        """
        path = self.paths[index]
        try:
            return self.prepare(decode(self.root / path, upright=False), index)
        except CorruptImage as error:
            said = str(error).removeprefix(f"{self.root / path}: ")
            raise CorruptImage(f"{path}: {said}") from None


@dataclass(frozen=True, kw_only=True)
class Running:
    """How images go through the network."""

    device: torch.device
    precision: str = "fp32"
    batch_size: int = 16
    workers: int = 0


def running_from_options(options: argparse.Namespace) -> Running:
    """What `add_forward_arguments` and `add_runtime_arguments` ask for; sets torch up."""
    return Running(
        device=set_up_torch(options.device, options.threads),
        precision=options.precision,
        batch_size=options.batch_size,
        workers=default_workers(options.workers),
    )


@dataclass(frozen=True)
class ListFeatures:
    """Features of those images of a list that could be read."""

    features: NDArray[np.float32]
    """(n, D)."""
    indices: NDArray[np.int64]
    """(n,) ascending, into the list."""
    skipped: list[str]
    """A message for each other image."""


def extract_list(network: Callable[[Tensor], Tensor], images: ImageList, running: Running) -> ListFeatures:
    """``network``'s outputs (b, D) for all images, in the list's order.

    Args:
        network: Takes normalised images (b, 3, H, W) on the device.
        images: The list.
        running: Device, precision, batch size and processes.

    Raises:
        UserError: No image can be used, or the features are not finite.
    """
    std = torch.tensor(STD, device=running.device)
    scale, shift = (1 / (255 * std)).view(3, 1, 1), (-torch.tensor(MEAN, device=running.device) / std).view(3, 1, 1)
    features: dict[int, NDArray[np.float32]] = {}
    skipped: list[str] = []
    with torch.inference_mode(), full_precision_products(), autocast(running.precision, running.device):
        for numbers, pixels in _batches(images, running, skipped):
            batch = pixels.to(running.device, non_blocking=True).permute(0, 3, 1, 2).float().mul_(scale).add_(shift)
            features.update(zip(numbers, network(batch).float().cpu().numpy(), strict=True))
    if not features:
        raise UserError(
            f"{images.root}: none of the {len(images.paths)} images of the {images.what} can be used; the first: "
            f"{skipped[0]}"
        )
    indices = sorted(features)
    stacked = np.stack([features[index] for index in indices])
    broken = int(np.count_nonzero(~np.isfinite(stacked).all(axis=1)))
    if broken:
        way_out = "its weights have diverged" if running.precision == "fp32" else "try --precision fp32"
        raise UserError(
            f"the network's features of {broken} of {len(stacked)} images of the {images.what} are not finite numbers; "
            f"{way_out}"
        )
    return ListFeatures(stacked, np.asarray(indices, dtype=np.int64), skipped)


def count_skipped(features: ListFeatures, images: ImageList) -> list[str]:
    """A note on the images of a list that were skipped; none where all could be read."""
    if not features.skipped:
        return []
    first = "; ".join(features.skipped[:3]) + ("; ..." if len(features.skipped) > 3 else "")
    return [f"{len(features.skipped)} of {len(images.paths)} images of the {images.what} skipped: {first}"]


def _batches(images: ImageList, running: Running, skipped: list[str]) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and pixels (b, H, W, 3) of images of one size; messages on the others go to ``skipped``."""
    groups: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    waiting = 0
    for index, pixels, message in track(_read_all(images, running), what=images.what, total=len(images.paths)):
        if pixels is None:
            skipped.append(message)
            logger.warning("skipped an image (%d so far): %s", len(skipped), message)
            continue
        group = groups.setdefault(pixels.shape, [])
        group.append((index, pixels))
        waiting += 1
        if len(group) < running.batch_size:
            if waiting < BATCHES_WAITING * running.batch_size:
                continue
            group = max(groups.values(), key=len)
        waiting -= len(group)
        yield _stack(groups.pop(group[0][1].shape))
    for group in groups.values():
        yield _stack(group)


def _stack(group: list[tuple[int, Tensor]]) -> tuple[list[int], Tensor]:
    return [index for index, _ in group], torch.stack([pixels for _, pixels in group])


def _read_all(images: ImageList, running: Running) -> Iterator[tuple[int, Tensor | None, str]]:
    one_by_one = _OneByOne(images)
    workers = min(running.workers, math.ceil(len(one_by_one) / 8))
    if workers == 0:
        for index in range(len(one_by_one)):
            yield one_by_one[index]
        return
    # Its own generator: a loader without one would advance the global random state.
    yield from torch.utils.data.DataLoader(
        one_by_one, batch_size=None, num_workers=workers, prefetch_factor=16, generator=torch.Generator()
    )


class _OneByOne(torch.utils.data.Dataset[tuple[int, Tensor | None, str]]):
    def __init__(self, images: ImageList) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        try:
            return index, torch.from_numpy(self.images.read(index)), ""
        except CorruptImage as error:
            return index, None, str(error)
