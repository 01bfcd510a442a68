"""One entry for every backbone: a name and its sizes in, a module that maps images to one feature out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dino.config import ARCHITECTURES, CONVNETS
from dino.errors import UserError

if TYPE_CHECKING:
    from dino.models.resnet import PooledResNet
    from dino.models.vit import VisionTransformer

    Backbone: TypeAlias = VisionTransformer | PooledResNet


def build_backbone(
    *,
    arch: str,
    patch_size: int,
    img_size: int,
    embed_dim: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    drop_path_rate: float = 0.0,
) -> Backbone:
    """A freshly initialised backbone (paper.md, A.1); draws from torch's global generator.

    Args:
        arch: ``vit_nano``, ``vit_tiny``, ``vit_small``, ``vit_base``, ``resnet_nano`` or ``resnet50``.
        patch_size: Side of a patch in pixels; ResNets have none and ignore it.
        img_size: Side in pixels of the images that the position table is made for (224 in the paper); ResNets
            ignore it.
        embed_dim: Width instead of the architecture's own.
        depth: Number of blocks instead of the architecture's own.
        num_heads: Attention heads instead of the architecture's own.
        drop_path_rate: Stochastic depth rate of the last block, rising linearly from 0 in the first. ViT only.

    Raises:
        UserError: An unknown architecture, or sizes that do not fit together.

    Example:
        >>> import torch
        >>> from dino.models import build_backbone
        >>> backbone = build_backbone(arch="vit_tiny", patch_size=16, img_size=224)
        >>> images = torch.rand(2, 3, 224, 224)
        >>> backbone(images).shape  # the feature: [CLS] after the final norm
        torch.Size([2, 192])
        >>> backbone.tokens(images).shape  # [CLS] and 14 x 14 patches
        torch.Size([2, 197, 192])
        >>> backbone.cls_attention(images).shape  # images, heads, patches
        torch.Size([2, 3, 196])
    """
    if arch in CONVNETS:
        from dino.models.resnet import PooledResNet

        if (embed_dim, depth, num_heads) != (None, None, None):
            raise UserError(f"{arch} has a fixed shape: leave out embed_dim, depth and num_heads")
        return PooledResNet(arch)
    from dino.models.vit import VIT_SHAPES, VisionTransformer

    if arch not in VIT_SHAPES:
        raise UserError(f"no architecture '{arch}' (known: {', '.join(ARCHITECTURES)})")
    shape = VIT_SHAPES[arch]
    return VisionTransformer(
        patch_size=patch_size,
        img_size=img_size,
        embed_dim=embed_dim or shape.embed_dim,
        depth=depth or shape.depth,
        num_heads=num_heads or shape.num_heads,
        drop_path_rate=drop_path_rate,
    )
