"""The photometric operations of the augmentation (paper.md, A.7), batched and in place, on float images in [0, 1].

Each takes (n, 3, S, S) images and one parameter an image. They follow Pillow and torchvision in exact arithmetic, where
Pillow rounds to 8 bits after every operation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601-2, Pillow's conversion to greyscale."""


BLOCK = 32
"""Pixels of an axis that the blur does at a time: large enough for the matrix product, small enough to skip zeros."""


def luma(images: Tensor) -> Tensor:
    """Brightness of each pixel: (n, 3, S, S) -> (n, S, S)."""
    gray = images[:, 0] * LUMA[0]
    gray.add_(images[:, 1], alpha=LUMA[1])
    return gray.add_(images[:, 2], alpha=LUMA[2])


def blend_(images: Tensor, factor: Tensor, gray_share: Tensor, mean_share: Tensor) -> Tensor:
    """``clamp(factor * x + gray_share * luma(x) + mean_share * mean(luma(x)))``, in place.

    Brightness, contrast and saturation are all of this form (shares (0, 0), (0, 1 - f) and (1 - f, 0)), so images that
    are at different operations of their own random order go through one call together.

    Args:
        images: (n, 3, S, S).
        factor: (n,)
        gray_share: (n,)
        mean_share: (n,)
    """
    gray = luma(images)
    # Of the greyscale image, not of the channels: Pillow's contrast.
    mean = gray.mean(dim=(1, 2))
    gray.mul_(gray_share[:, None, None]).add_((mean * mean_share)[:, None, None])
    return images.mul_(factor[:, None, None, None]).add_(gray[:, None]).clamp_(0, 1)


def shift_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (n,) of a full circle, in HSV: value and saturation stay. In place.

    With value V (largest channel), chroma C and hue h in sixths of the circle, the channels of a colour are
    V - C + C * ramp(h - c) with a trapezoid about the channel's own position c = 0, 2, 4.
    """
    red, green, blue = images.unbind(1)
    least = torch.minimum(torch.minimum(red, green), blue)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - least
    inverse = 1 / chroma.clamp(min=1e-12)
    hue = torch.where(
        value == red,
        (green - blue) * inverse,
        torch.where(value == green, (blue - red) * inverse + 2, (red - green) * inverse + 4),
    )
    hue += 6 * shift[:, None, None]
    hue -= 6 * torch.floor(hue * (1 / 6))
    # Now 0 <= h < 6: red is full at both ends of the range, green around 2, blue around 4.
    torch.addcmul(least, (hue - 3).abs_().sub_(1).clamp_(0, 1), chroma, out=red)
    torch.addcmul(least, (hue - 2).abs_().neg_().add_(2).clamp_(0, 1), chroma, out=green)
    torch.addcmul(least, hue.sub_(4).abs_().neg_().add_(2).clamp_(0, 1), chroma, out=blue)
    return images


def solarize(images: Tensor) -> Tensor:
    """Invert what is at least half bright: Pillow's threshold of 128 lies between 127/255 and 128/255."""
    return torch.where(images >= 0.5, 1 - images, images)


def blur_matrices(sigma: Tensor, size: int) -> Tensor:
    """Matrices (n, size, size) that blur an axis by standard deviation ``sigma`` (n,) pixels as Pillow does.

    Pillow's GaussianBlur is three box blurs of fractional radius (Gwosdek et al. 2011, "Theoretical foundations of
    Gaussian convolution by extended box filtering") with the edge pixels repeated, so the matrix is a box matrix cubed.
    """
    variance = (sigma.double() ** 2 / 3)[:, None, None]
    whole = torch.floor((torch.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    # Box weight at distance d: 1 up to `whole`, `part` at whole + 1, 0 beyond; they sum to 2 (whole + part) + 1.
    index = torch.arange(size, device=sigma.device, dtype=torch.float64)
    distance = (index[:, None] - index[None, :]).abs()[None]
    box = torch.where(distance <= whole, 1.0, torch.where(distance == whole + 1, part, 0.0))
    # Repeated edges: what falls outside counts for the first or last pixel.
    for edge, outside in ((0, index), (size - 1, size - 1 - index)):
        room = outside[None, :]
        beyond = (whole[:, :, 0] - room).clamp(min=0) + torch.where(
            room <= whole[:, :, 0], part[:, :, 0], torch.zeros_like(room)
        )
        box[:, :, edge] += beyond
    box = (box / (2 * (whole + part) + 1)).float()
    return box @ box @ box


def blur_reach(sigma: float) -> int:
    """Pixels to either side that a blur of at most ``sigma`` draws on: three boxes."""
    return 3 * (math.floor((math.sqrt(4 * sigma * sigma + 1) - 1) / 2) + 1)


def blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Gaussian blur of (n, 3, S, S) images by ``sigma`` (n,) pixels, as Pillow does it.

    Works in blocks of pixels along each axis, because beyond ``reach`` (`blur_reach` of the largest sigma) the matrices
    are 0; a large axis has only three different blocks: first, inner and last.
    """
    n, channels, size, _ = images.shape
    if size <= 3 * BLOCK or reach > BLOCK:
        blocks, matrices = (
            [(slice(0, size),) * 4],
            blur_matrices(sigma, size),
        )
    else:
        matrices, blocks = blur_matrices(sigma, 3 * BLOCK), []
        for start in range(0, size, BLOCK):
            start = min(start, size - BLOCK)
            # Where the block stands in the axis, and where an equal one stands in the small matrix.
            at = 0 if start == 0 else (2 * BLOCK if start == size - BLOCK else BLOCK)
            before, after = min(reach, at), min(reach, 2 * BLOCK - at)
            blocks.append(
                (
                    slice(start, start + BLOCK),
                    slice(start - before, start + BLOCK + after),
                    slice(at, at + BLOCK),
                    slice(at - before, at + BLOCK + after),
                )
            )
    rows = images.reshape(n, channels * size, size)
    across, result = torch.empty_like(rows), torch.empty_like(images)
    for out, into, row, column in blocks:
        across[:, :, out] = torch.bmm(rows[:, :, into], matrices[:, row, column].transpose(1, 2))
    across = across.view(n, channels, size, size)
    for out, into, row, column in blocks:
        result[:, :, out] = torch.matmul(matrices[:, None, row, column], across[:, :, into])
    return result
