"""What linear probes look at: one joint feature of which every probe takes some neighbouring columns (paper.md, C.2).

A ViT's joint feature is the [CLS] tokens of its last blocks, earliest first, each through the final norm, and then the
mean of the last block's normed patch tokens. The last n blocks' [CLS] tokens and the last [CLS] with the mean patch
token are neighbouring columns of it, so that one forward pass serves every probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dino.errors import UserError
from dino.models.vit import VisionTransformer

if TYPE_CHECKING:
    from dino.models.backbone import Backbone

PAPER = ("l1", "l2", "l4", "l6", "pool")
"""Of App. F."""
RESNET = "pooled"


class JointFeature(nn.Module):
    """Images (B, 3, H, W) to the joint feature (B, width).

    Args:
        backbone: In eval mode; its weights are not trained.
        names: Features that probes are to take; None is App. F's for a ViT, the pooled map for a ResNet.

    Raises:
        UserError: A name that the network has no feature for.
    """

    def __init__(self, backbone: Backbone, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.columns: dict[str, slice] = {}
        """Columns of each feature. More blocks than there are mean all: features may share their columns."""
        if isinstance(backbone, VisionTransformer):
            self._place_tokens(backbone, names or PAPER)
            return
        if set(names or [RESNET]) != {RESNET}:
            raise UserError(f"a ResNet has no tokens: its one feature is '{RESNET}', not {', '.join(names or ())}")
        self.blocks, self.patches, self.width = 1, False, int(backbone.embed_dim)
        self.columns[RESNET] = slice(0, self.width)

    def _place_tokens(self, backbone: VisionTransformer, names: Sequence[str]) -> None:
        if RESNET in names:
            raise UserError(f"'{RESNET}' is the feature of a ResNet; those of a ViT are l1, l2, ... and pool")
        depth, width = len(backbone.blocks), int(backbone.embed_dim)
        taken = {name: 1 if name == "pool" else min(int(name[1:]), depth) for name in names}
        self.blocks, self.patches = max(taken.values()), "pool" in names
        for name, blocks in taken.items():
            stop = self.blocks + (name == "pool")
            self.columns[name] = slice((self.blocks - blocks) * width, stop * width)
        self.width = (self.blocks + self.patches) * width

    def forward(self, images: Tensor) -> Tensor:
        """The joint feature, in the precision of the forward pass."""
        if self.blocks == 1 and not self.patches:
            feature: Tensor = self.backbone(images)
            return feature
        assert isinstance(self.backbone, VisionTransformer)
        blocks = self.backbone.last_blocks(images, self.blocks)
        parts = [tokens[:, 0] for tokens in blocks]
        if self.patches:
            parts.append(blocks[-1][:, 1:].mean(dim=1))
        return torch.cat(parts, dim=1)


def default_headline(arch: str, backbone: nn.Module) -> str:
    """The paper's choice: 4 blocks for ViT-S (and smaller), the last block with the mean patch token for ViT-B."""
    if not isinstance(backbone, VisionTransformer):
        return RESNET
    return "pool" if arch == "vit_base" else "l4"
