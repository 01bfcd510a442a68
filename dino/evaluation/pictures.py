"""Images as attention figures and masks show them to the network (paper.md, C.9): resized, cut to whole patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dino.data.augment import MEAN, STD

LONGEST = 8.0
"""Largest ratio of long to short side where the aspect is kept: beyond it a picture has tens of thousands of tokens."""


class UnusablePicture(Exception):
    """An image that cannot be shown to this network; the message says why."""


@dataclass(frozen=True)
class Picture:
    """One image at the network's size."""

    pixels: NDArray[np.uint8]
    """(h, w, 3) RGB; h and w are multiples of the patch."""
    original: tuple[int, int]
    """Height and width before."""
    resized: tuple[int, int]
    """Height and width after resizing, before what exceeds the last whole patch was cut off."""


def target_size(original: tuple[int, int], image_size: int, *, keep_aspect: bool) -> tuple[int, int]:
    """Height and width after resizing: ``image_size`` square, or the short side's (rounded as torchvision does)."""
    if not keep_aspect:
        return image_size, image_size
    height, width = original
    far = int(image_size * max(original) / min(original))
    return (far, image_size) if height > width else (image_size, far)


def prepare(image: NDArray[np.uint8], *, image_size: int, keep_aspect: bool, patch_size: int) -> Picture:
    """Resize (H, W, 3) RGB as the authors' figures do (Pillow's bilinear) and cut it to whole patches.

    Raises:
        UnusablePicture: It is smaller than a patch, or too long for ``keep_aspect``.
    """
    height, width = image.shape[:2]
    if min(height, width) < patch_size:
        raise UnusablePicture(f"{width}x{height} pixels, smaller than one patch ({patch_size} pixels)")
    if keep_aspect and max(height, width) > LONGEST * min(height, width):
        raise UnusablePicture(
            f"{width}x{height} pixels, so long that it would take too many tokens: resize it to a square"
        )
    resized = target_size((height, width), image_size, keep_aspect=keep_aspect)
    if resized != (height, width):
        image = np.asarray(Image.fromarray(image).resize(resized[::-1], Image.Resampling.BILINEAR))
    rows, columns = resized[0] // patch_size, resized[1] // patch_size
    return Picture(
        pixels=np.ascontiguousarray(image[: rows * patch_size, : columns * patch_size]),
        original=(height, width),
        resized=resized,
    )


def to_tensor(pixels: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Equal-size (h, w, 3) images to a normalised (B, 3, h, w) float32 batch on ``device``."""
    batch = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    return batch.sub_(mean).div_(std)
