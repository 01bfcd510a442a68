"""ResNet-50 without its classifier (protocols A.1)."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet


class ResNet50(ResNet):
    """torchvision's ResNet-50, whose classifier is the identity: (B, 3, H, W) -> (B, 2048), global average pool.

    23.5 M parameters. Its state dict has torchvision's names, which are those of the released weights.
    """

    embed_dim = 2048
    # What a ViT has and this has not, for whoever describes a backbone.
    patch_size = img_size = depth = num_heads = None

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
