"""Random resized crops of a whole batch: boxes as torchvision draws them, resampling as Pillow does it.

Bicubic for pretraining (paper.md, A.7), bilinear for linear probes (C.2).

A crop, its resize and its mirror image are one linear map per axis, so a batch of them is two batched matrix products.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

TRIES = 10
"""Boxes drawn before the fallback, as in torchvision's RandomResizedCrop."""

BOX_DRAWS = 2 * TRIES + 2
"""Uniform numbers that one crop needs: area and aspect for each try, then top and left."""

ASPECT = (3 / 4, 4 / 3)

Kernel = Literal["bicubic", "bilinear"]


def draw_boxes(uniform: Tensor, *, heights: Tensor, widths: Tensor, scale: tuple[float, float]) -> Tensor:
    """Crop boxes of a random-resized-crop (paper.md, A.7): area U(scale), log-uniform aspect.

    Args:
        uniform: (n, BOX_DRAWS) float64 in [0, 1), all the randomness there is.
        heights: (n,) image heights in pixels.
        widths: (n,) image widths in pixels.
        scale: Range of the box's share of the image area.

    Returns:
        (n, 4) int64: top, left, height, width. The first of ten tries that fits; else the largest central box of
        admissible aspect, as torchvision falls back.
    """
    rows, columns = heights.double()[:, None], widths.double()[:, None]
    area = rows * columns * (scale[0] + (scale[1] - scale[0]) * uniform[:, :TRIES])
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = torch.exp(low + (high - low) * uniform[:, TRIES : 2 * TRIES])
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (width >= 1) & (width <= columns) & (height >= 1) & (height <= rows)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    # Fallback: the whole image, cut where its aspect is out of range.
    rows, columns = rows[:, 0], columns[:, 0]
    whole_width = torch.minimum(columns, (rows * ASPECT[1]).round())
    whole_height = torch.minimum(rows, (columns / ASPECT[0]).round())
    height, width = torch.where(found, height, whole_height), torch.where(found, width, whole_width)
    top = (uniform[:, -2] * (rows - height + 1)).floor()
    left = (uniform[:, -1] * (columns - width + 1)).floor()
    top = torch.where(found, top, ((rows - height) / 2).floor())
    left = torch.where(found, left, ((columns - width) / 2).floor())
    return torch.stack([top, left, height, width], dim=1).long()


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, Pillow's BICUBIC, at ``x`` >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _bilinear(x: Tensor) -> Tensor:
    """The triangle, Pillow's BILINEAR, at ``x`` >= 0."""
    return (1 - x).clamp_(min=0)


_KERNELS = {"bicubic": _bicubic, "bilinear": _bilinear}


def resample_weights(
    start: Tensor,
    length: Tensor,
    *,
    in_size: int,
    out_size: int,
    flip: Tensor | None = None,
    kernel: Kernel = "bicubic",
) -> Tensor:
    """Matrices that crop ``[start, start + length)`` of an axis and resample it to ``out_size`` pixels.

    Pillow's semantics: the kernel widens when shrinking (antialiasing) and sees nothing outside the crop.

    Args:
        start: (n,) first pixel of each crop.
        length: (n,) pixels of each crop.
        in_size: Pixels of the axis.
        out_size: Pixels wanted.
        flip: (n,) bool, whether to mirror the result.
        kernel: What pixels are averaged by.

    Returns:
        (n, out_size, in_size) float32; each row sums to 1.
    """
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    target = torch.arange(out_size, device=start.device, dtype=torch.float32)[None, :, None] + 0.5
    if flip is not None:
        target = torch.where(flip[:, None, None], out_size - target, target)
    step = length / out_size
    position = torch.arange(in_size, device=start.device, dtype=torch.float32)[None, None, :] + 0.5 - start
    weights = _KERNELS[kernel](((position - target * step) / step.clamp(min=1.0)).abs_())
    weights *= (position > 0) & (position < length)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def crop_resize(images: Tensor, boxes: Tensor, *, size: int, flip: Tensor, kernel: Kernel = "bicubic") -> Tensor:
    """Cut ``boxes`` out of ``images``, resize to ``size`` and mirror where ``flip`` says so.

    Args:
        images: (n, 3, H, W), uint8.
        boxes: (n, 4) top, left, height, width.
        size: Side of the result.
        flip: (n,) bool.
        kernel: What pixels are averaged by.

    Returns:
        (n, 3, size, size) float32 in [0, 1].
    """
    n, channels, height, width = images.shape
    top, left, box_height, box_width = boxes.unbind(1)
    horizontal = resample_weights(left, box_width, in_size=width, out_size=size, flip=flip, kernel=kernel)
    vertical = resample_weights(top, box_height, in_size=height, out_size=size, kernel=kernel).mul_(1 / 255)
    # Pillow also goes horizontally first and cuts the overshoot in between.
    narrow = torch.bmm(images.reshape(n, channels * height, width).float(), horizontal.transpose(1, 2)).clamp_(0, 255)
    result = torch.matmul(vertical[:, None], narrow.view(n, channels, height, size))
    return result.clamp_(0, 1)


def crop_resize_one(image: Tensor, box: list[int], *, size: int, flip: bool, kernel: Kernel = "bicubic") -> Tensor:
    """The same for one image, in whole numbers by torch's uint8 kernel (Pillow's within 2/255, a fifth of its time).

    Args:
        image: (3, H, W) uint8; fastest where the channels of a pixel lie together, as decoders leave them.
        box: Top, left, height, width.
        size: Side of the result.
        flip: Whether to mirror.
        kernel: What pixels are averaged by.

    Returns:
        (3, size, size) uint8.
    """
    top, left, height, width = box
    crop = image[None, :, top : top + height, left : left + width]
    resized = F.interpolate(crop, (size, size), mode=kernel, antialias=True)[0]
    return resized.flip(2) if flip else resized


def crop_resize_each(
    images: list[Tensor], boxes: Tensor, *, size: int, flip: Tensor, kernel: Kernel = "bicubic"
) -> Tensor:
    """All views of images of any size, one at a time.

    Args:
        images: B of (3, H, W) uint8.
        boxes: (views * B, 4), view-major.
        size: Side of the result.
        flip: (views * B,) bool.
        kernel: What pixels are averaged by.

    Returns:
        (views * B, 3, size, size) uint8.
    """
    result = torch.empty(len(boxes), 3, size, size, dtype=torch.uint8)
    for row, (box, mirror) in enumerate(zip(boxes.tolist(), flip.tolist(), strict=True)):
        result[row] = crop_resize_one(images[row % len(images)], box, size=size, flip=mirror, kernel=kernel)
    return result
