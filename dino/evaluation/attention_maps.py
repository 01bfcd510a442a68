"""Attention of the last block as maps over the patches, and the masks that hold most of its mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.pictures import to_tensor
from dino.running.precision import autocast, full_precision_products

if TYPE_CHECKING:
    from dino.models.vit import VisionTransformer

CLS = 0
"""The token whose attention is shown where no patch is named."""


def attention_maps(
    backbone: VisionTransformer,
    pixels: Sequence[NDArray[np.uint8]],
    *,
    rows: Sequence[int] = (CLS,),
    device: torch.device,
    precision: str = "fp32",
) -> Tensor:
    """Last-block attention of the tokens ``rows`` to the patches: (B, heads, len(rows), h/p, w/p) float32, on the CPU.

    Args:
        backbone: In eval mode, on ``device``.
        pixels: Equal-size images (h, w, 3) of whole patches.
        rows: Query tokens: 0 is CLS, 1+n is patch n, counted row by row.
        device: Where to compute.
        precision: Of the forward pass; the softmax is float32 in any case.

    Raises:
        UserError: The attention is not finite.
    """
    height, width = pixels[0].shape[:2]
    with torch.inference_mode(), full_precision_products(), autocast(precision, device):
        attention = backbone.attention_rows(to_tensor(pixels, device), rows).float().cpu()
    if not bool(attention.isfinite().all()):
        way_out = "its weights have diverged" if precision == "fp32" else "try --precision fp32"
        raise UserError(f"the network's attention is not finite: {way_out}")
    patch = backbone.patch_size
    return attention.unflatten(-1, (height // patch, width // patch))


def keep_mass(attention: Tensor, mass: float) -> Tensor:
    """The smallest set of patches that holds ``mass`` of each map: (..., N) to bool (..., N), as in Fig. 4.

    The patches' attention is renormalised to sum to 1 (CLS's own share is left out), sorted, and those are dropped
    that together hold at most 1 - ``mass`` from the smallest up.
    """
    values, order = attention.sort(dim=-1, stable=True)
    cumulated = (values / values.sum(dim=-1, keepdim=True)).cumsum(dim=-1)
    return torch.zeros_like(attention, dtype=torch.bool).scatter_(-1, order, cumulated > 1 - mass)


def enlarge(maps: NDArray[np.generic], patch_size: int) -> NDArray[np.generic]:
    """Nearest upsampling of (..., h, w) by the patch: every patch becomes a square of its value."""
    return maps.repeat(patch_size, axis=-2).repeat(patch_size, axis=-1)
