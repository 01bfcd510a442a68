"""A backbone with its projection head, and the student-teacher pair (paper.md, A.3, A.5)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from dino.config import RunConfig
from dino.models.backbone import build_backbone
from dino.models.head import build_head

if TYPE_CHECKING:
    from dino.models.backbone import Backbone
    from dino.models.head import ProjectionHead


class Network(nn.Module):
    """Student or teacher: ``backbone`` and ``head``, the prefixes of the state dict."""

    def __init__(self, backbone: Backbone, head: ProjectionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: list[Tensor]) -> Tensor:
        """Outputs of multi-crop views.

        Args:
            views: One tensor (V*B, 3, h, w) for each group of V equal-size views, view-major: all images of the
                group's first view, then all of its second.

        Returns:
            The head's output of all views, (sum of V * B, K or the unit vectors' size), view-major in the order of the
            groups. The backbone runs once a group, the head once.
        """
        features = [self.backbone(group) for group in views]
        return self.head(features[0] if len(features) == 1 else torch.cat(features))


def build_student_backbone(config: RunConfig) -> Backbone:
    """The backbone that a run trains, with its stochastic depth; the position table fits the global crops."""
    return build_backbone(
        arch=config.arch,
        patch_size=config.patch_size,
        img_size=config.global_crop_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        drop_path_rate=config.drop_path_rate,
    )


def build_networks(config: RunConfig) -> tuple[Network, Network]:
    """Student and teacher at the start of a run; seeding torch's global generator is the caller's.

    The teacher is an exact copy, without predictor, stochastic depth and gradients.

    Example:
        >>> import torch
        >>> from dino.config import RunConfig
        >>> from dino.models import build_networks
        >>> config = RunConfig(arch="vit_nano", patch_size=8, global_crop_size=32, local_crop_size=16, out_dim=64)
        >>> student, teacher = build_networks(config)
        >>> crops = [torch.randn(2 * 4, 3, 32, 32), torch.randn(6 * 4, 3, 16, 16)]  # 2 + 6 views of 4 images
        >>> student(crops).shape, teacher(crops[:1]).shape
        (torch.Size([32, 64]), torch.Size([8, 64]))
    """
    backbone = build_student_backbone(config)
    student = Network(backbone, build_head(config, backbone.embed_dim))
    teacher = copy.deepcopy(student).requires_grad_(False)
    teacher.head.predictor = None
    for module in teacher.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return student, teacher
