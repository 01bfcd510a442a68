"""Vision transformers as in DINO (paper.md, A.1): timm's modules and names, the paper's initialisation and outputs.

What differs from timm's own class is what the features are: the final-normed CLS token, computed without the work of
the last block that does not reach it, and a position table resampled the way that the released weights expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models import vision_transformer as timm_vit
from torch import Tensor, nn
from torch.nn import functional as F

from dino.errors import UserError
from dino.models.attention import Attention, attention_rows


@dataclass(frozen=True)
class ViTShape:
    """Width, number of blocks and of attention heads; the MLP is 4 times as wide (paper.md, A.1)."""

    embed_dim: int
    depth: int
    num_heads: int


VIT_SHAPES: dict[str, ViTShape] = {
    # Not in the paper: small enough for the laptop scale.
    "vit_nano": ViTShape(64, 3, 4),
    # In the authors' code only, and used by the benchmarks.
    "vit_tiny": ViTShape(192, 12, 3),
    "vit_small": ViTShape(384, 12, 6),
    "vit_base": ViTShape(768, 12, 12),
}


class VisionTransformer(timm_vit.VisionTransformer):
    """timm's `VisionTransformer` as DINO's backbone: no classifier, LayerNorm eps 1e-6, exact GELU, no dropout.

    Any image size of at least one patch works; pixels beyond the last whole patch are dropped.

    Args:
        patch_size: Side of a patch, pixels.
        img_size: Side of the images that the position table fits, pixels; its grid is ``img_size // patch_size``.
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads; divides ``embed_dim``.
        drop_path_rate: Stochastic depth of the last block, per sample, rising linearly from 0 in the first block.

    Raises:
        UserError: ``embed_dim`` is no multiple of ``num_heads``, or the image is smaller than a patch.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    blocks: nn.Sequential

    def __init__(
        self,
        *,
        patch_size: int,
        img_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        drop_path_rate: float = 0.0,
    ) -> None:
        if embed_dim % num_heads:
            raise UserError(f"embed_dim ({embed_dim}) is not a multiple of num_heads ({num_heads})")
        if img_size < patch_size:
            raise UserError(f"the image size ({img_size}) is smaller than the patch size ({patch_size})")
        super().__init__(
            img_size=img_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            drop_path_rate=drop_path_rate,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            block_fn=Block,
            attn_layer=Attention,
            weight_init="skip",
        )
        self.patch_size = patch_size
        self.img_size = img_size
        self.depth = depth
        self.num_heads = num_heads
        self._initialise()

    def _initialise(self) -> None:
        # The bounds of the truncation are 100 standard deviations away; the patch convolution keeps torch's own.
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # timm's takes a mask too
        """Final-normed CLS token of images (B, 3, H, W): (B, D)."""
        x = self._embed(x)
        for block in self.blocks[:-1]:
            x = block(x)
        last: Any = self.blocks[-1]
        return self.norm(last.cls_row(x))

    def tokens(self, x: Tensor) -> Tensor:
        """All final-normed tokens (B, 1+N, D): CLS, then the patches row by row."""
        return self.norm(self.blocks(self._embed(x)))

    def last_blocks(self, x: Tensor, n: int) -> list[Tensor]:
        """Outputs of the last ``n`` blocks, earliest first, each through the final norm: ``n`` times (B, 1+N, D)."""
        if not 1 <= n <= len(self.blocks):
            raise UserError(f"this backbone has {len(self.blocks)} blocks: the last {n} cannot be taken")
        x = self._embed(x)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index >= len(self.blocks) - n:
                outputs.append(self.norm(x))
        return outputs

    def cls_attention(self, x: Tensor) -> Tensor:
        """Attention of the CLS token to the patches in the last block: (B, heads, N).

        The softmax runs over all 1+N tokens, and CLS's weight on itself is left out, so a row sums to less than 1.
        Only the CLS row is computed: memory grows with N, not with its square.
        """
        return self.attention_rows(x, [0])[:, :, 0]

    def attention_rows(self, x: Tensor, rows: Sequence[int]) -> Tensor:
        """Attention of some tokens to the patches in the last block: (B, heads, len(rows), N) float32.

        Args:
            x: Images (B, 3, H, W).
            rows: Tokens whose attention is wanted: 0 is CLS, 1+n is patch n, counted row by row.

        The softmax runs over all 1+N tokens, and the weight on CLS is left out, so a row sums to less than 1. The
        other rows are not computed: memory grows with N, not with its square.
        """
        x = self._embed(x)
        for block in self.blocks[:-1]:
            x = block(x)
        last: Any = self.blocks[-1]
        normed = last.norm1(x)
        return attention_rows(last.attn, normed, normed[:, list(rows)])[..., 1:]

    def _embed(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the first block's input (B, 1+N, D)."""
        height, width = x.shape[-2:]
        if min(height, width) < self.patch_size:
            raise UserError(f"an image of {height}x{width} pixels is smaller than one patch ({self.patch_size} pixels)")
        patches = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        positions = self._positions(height, width)
        cls = (self.cls_token + positions[:, :1]).expand(len(x), -1, -1)
        return torch.cat([cls, patches + positions[:, 1:]], dim=1)

    def _positions(self, height: int, width: int) -> Tensor:
        """The position table (1, 1+N, D) for images of ``height`` x ``width`` pixels.

        The stored table is used as it is where it fits. Otherwise its square map is resampled bicubically by scale
        factors with 0.1 of a cell added, which the released weights' features depend on (facebookresearch/dino#8).
        """
        rows, columns = height // self.patch_size, width // self.patch_size
        stored = self.pos_embed.shape[1] - 1
        if height == width and rows * columns == stored:
            return self.pos_embed
        side = math.isqrt(stored)
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        if grid.shape[-2:] != (rows, columns):
            raise RuntimeError(f"resampled the position table to {tuple(grid.shape[-2:])}, not {(rows, columns)}")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class Block(timm_vit.Block):
    """timm's pre-norm block, which can also compute its CLS row alone."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # timm's takes a mask too
        """Tokens (B, 1+N, D) to tokens."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def cls_row(self, x: Tensor) -> Tensor:
        """Row 0 of ``forward(x)``, (B, D), by the same mathematics without the work for the other rows.

        Values are projected after they are averaged: sum_n a_n (W_v y_n + b_v) = W_v (sum_n a_n y_n) + b_v. What is
        left of the block's cost on the 1+N tokens is a LayerNorm and two thin products, which saves about 8 % of a
        12-block network and a third of a 3-block one.
        """
        attn: Any = self.attn
        normed = self.norm1(x)
        batch, _, width = normed.shape
        weights = attention_rows(attn, normed, normed[:, :1])[:, :, 0]
        mixed = torch.matmul(weights.to(normed.dtype), normed)  # (B, heads, D)
        v_weight = attn.qkv.weight[2 * width :].view(attn.num_heads, -1, width)
        values = torch.matmul(mixed.transpose(0, 1), v_weight.transpose(1, 2))  # (heads, B, d)
        values = values.transpose(0, 1).reshape(batch, width) + attn.qkv.bias[2 * width :]
        cls = x[:, 0]
        cls = cls + self.drop_path1(attn.proj(values))
        return cls + self.drop_path2(self.mlp(self.norm2(cls)))
