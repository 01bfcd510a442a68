"""What the network is shown for retrieval (paper.md, C.5): images shrunk to a longest side, at one or three scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dino.data.decode import CorruptImage
from dino.errors import UserError
from dino.evaluation.retrieval.dataset import Box

SCALES = (1.0, 2**-0.5, 0.5)
"""Factors whose features are averaged where several scales are asked for."""

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class Shrink:
    """Longest side to at most ``longest`` pixels: aspect kept, Lanczos, never enlarged; before it a crop, if any.

    Pillow's own `thumbnail`, whose rounding and two-step reduction of large images the released numbers went through.
    """

    longest: int
    smallest: int
    """Pixels that the short side must have left, so that every scale holds a patch."""
    boxes: list[PixelBox] | None = None
    """What is cut out of each image of the list; None is nothing."""

    def __call__(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Image ``index`` of a list: (H, W, 3) uint8 in and out."""
        picture = Image.fromarray(image)
        if self.boxes is not None:
            picture = picture.crop(self.boxes[index])
        picture.thumbnail((self.longest, self.longest), Image.Resampling.LANCZOS)
        if min(picture.size) < self.smallest:
            width, height = picture.size
            raise CorruptImage(f"{width}x{height} pixels are too few for the network ({self.smallest} a side)")
        return np.array(picture)


def smallest_side(patch_size: int | None, scales: Sequence[float]) -> int:
    """Pixels of a side that still hold a patch at the smallest scale; a ResNet takes any image."""
    return math.ceil((patch_size or 1) / min(scales))


def pixel_boxes(root: Path, paths: list[str], boxes: list[Box]) -> tuple[list[PixelBox], list[str]]:
    """Boxes rounded to pixels and cut at the borders of their images, and a note where any was cut.

    Raises:
        UserError: A box lies outside its image.
    """
    rounded: list[PixelBox] = []
    cut: list[str] = []
    for path, box in zip(paths, boxes, strict=True):
        left, top, right, bottom = map(round, box)
        try:
            with Image.open(root / path) as image:
                width, height = image.size
        except OSError:
            rounded.append((left, top, right, bottom))  # unreadable: it will be skipped and counted
            continue
        inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise UserError(
                f"{root / path}: the box {list(box)} of this query has no pixel of the image, which is {width}x{height}"
            )
        if inside != (left, top, right, bottom):
            cut.append(path)
        rounded.append(inside)
    if not cut:
        return rounded, []
    first = ", ".join(cut[:3]) + (", ..." if len(cut) > 3 else "")
    return rounded, [f"{len(cut)} of {len(boxes)} query boxes reach beyond their image and were cut: {first}"]


def at_scales(backbone: Callable[[Tensor], Tensor], scales: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """``backbone`` with its features averaged over ``scales`` (bilinear), before any normalisation: (b, D)."""

    def network(images: Tensor) -> Tensor:
        total = None
        for scale in scales:
            shown = images
            if scale != 1.0:
                shown = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
            features = backbone(shown).float()
            total = features if total is None else total + features
        assert total is not None
        return total / len(scales)

    return network
