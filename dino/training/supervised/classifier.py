"""A backbone with a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dino.models.backbone import Backbone


class Classifier(nn.Module):
    """``backbone`` and ``head``: (B, 3, H, W) to logits (B, classes).

    Args:
        backbone: Its feature is what is classified: the normed CLS token, or a ResNet's pooled map.
        classes: Number of classes.
        init_scale: Factor on the new head's weights, which are drawn from N(0, 0.02) as a ViT's; the bias is 0.
    """

    def __init__(self, backbone: Backbone, classes: int, *, init_scale: float = 1.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(init_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.backbone(images))
