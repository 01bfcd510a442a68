"""ResNets without their classifier (paper.md, A.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class ResNetShape(NamedTuple):
    """What torchvision builds a ResNet from."""

    block: type[BasicBlock | Bottleneck]
    layers: tuple[int, int, int, int]
    embed_dim: int
    narrowing: int = 1
    """What the width of every stage, 64 to 512, is divided by."""


RESNET_SHAPES = {
    # Not in the paper: stands for ResNet-50 at small scales (0.3 M parameters), about as large and as costly as the
    # ViT there, as ResNet-50 is beside ViT-S/16 (Table 2). At full width forward and backward take six times as long
    # (measured: 128 images of 32 pixels, one core, 0.69 against 0.12 s).
    "resnet_nano": ResNetShape(BasicBlock, (1, 1, 1, 1), 128, narrowing=4),
    "resnet50": ResNetShape(Bottleneck, (3, 4, 6, 3), 2048),
}


class PooledResNet(ResNet):
    """torchvision's ResNet, whose classifier is the identity: (B, 3, H, W) -> (B, embed_dim), global average pool.

    ResNet-50: 2048 features, 23.5 M parameters. The state dict has torchvision's names, which are those of the released
    weights.
    """

    # What a ViT has and this has not, for whoever describes a backbone.
    patch_size = img_size = depth = num_heads = None

    def __init__(self, arch: str = "resnet50") -> None:
        shape = RESNET_SHAPES[arch]
        self._narrowing = shape.narrowing
        super().__init__(shape.block, list(shape.layers))
        self.embed_dim = shape.embed_dim
        self.fc = nn.Identity()
        # Convolutions are faster in this layout: on a CPU a step takes 0.7 of the time.
        self.to(memory_format=torch.channels_last)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        return super()._make_layer(block, planes // self._narrowing, blocks, stride, dilate)
