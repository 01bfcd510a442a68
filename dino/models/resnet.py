"""ResNets without their classifier (protocols A.1)."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class ResNetShape(NamedTuple):
    """What torchvision builds a ResNet from."""

    block: type[BasicBlock | Bottleneck]
    layers: tuple[int, int, int, int]
    embed_dim: int


RESNET_SHAPES = {
    # Not in the paper: stands for ResNet-50 at small scales (4.9 M parameters).
    "resnet10": ResNetShape(BasicBlock, (1, 1, 1, 1), 512),
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
        super().__init__(shape.block, list(shape.layers))
        self.embed_dim = shape.embed_dim
        self.fc = nn.Identity()
