"""What a backbone is made of: parameters, tokens, multiply-adds (Table 1)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Size:
    """A backbone without projection head or classifier."""

    parameters: int
    dim: int
    """Of the feature."""
    blocks: int | None
    heads: int | None
    tokens: int | None
    """CLS and patches; None, as blocks and heads, for a ResNet."""
    multiply_adds: int
    """Of one image through the whole network: every token of a ViT's last block."""
    multiply_adds_timed: int
    """Of what `Backbone.forward` computes: in a ViT's last block the CLS row alone."""

    @property
    def head_dim(self) -> int | None:
        """Width of an attention head."""
        return self.dim // self.heads if self.heads else None


def measure_size(backbone: nn.Module, image_size: int) -> Size:
    """Count without computing: the network is run on torch's meta device."""
    network: Any = copy.deepcopy(backbone).to("meta")
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    timed = count_multiply_adds(network, image)
    patch = network.patch_size
    return Size(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        dim=network.embed_dim,
        blocks=network.depth,
        heads=network.num_heads,
        tokens=1 + (image_size // patch) ** 2 if patch else None,
        multiply_adds=count_multiply_adds(network.tokens, image) if patch else timed,
        multiply_adds_timed=timed,
    )


@torch.no_grad()
def count_multiply_adds(function: Any, image: Tensor) -> int:
    """Multiply-adds of the matrix products and convolutions in ``function(image)``.

    One multiplication with its addition is one, as in the tables of the literature (ViT-S/16: 4.6 G); torch's counter
    takes it for two.
    """
    counter = FlopCounterMode(display=False)
    # Fused attention kernels differ in what the counter knows of them; plain products are always counted.
    with sdpa_kernel(SDPBackend.MATH), counter:
        function(image)
    return counter.get_total_flops() // 2
