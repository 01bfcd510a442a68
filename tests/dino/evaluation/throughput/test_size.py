from __future__ import annotations

import pytest
import torch

from dino.evaluation.throughput.size import measure_size
from dino.models import build_backbone


@pytest.mark.parametrize(
    ("arch", "patch_size", "tokens", "billions"),
    [
        ("vit_small", 16, 197, 4.6),
        ("vit_small", 8, 785, 22.4),
        ("vit_base", 16, 197, 17.6),
        ("vit_tiny", 5, 1937, None),
    ],
)
def test_a_vit_has_the_sizes_of_table_1(arch: str, patch_size: int, tokens: int, billions: float | None) -> None:
    with torch.device("meta"):
        network = build_backbone(arch=arch, patch_size=patch_size, img_size=224)
    size = measure_size(network, 224)
    assert size.tokens == tokens
    assert (size.dim, size.blocks, size.head_dim) == (network.embed_dim, 12, 64)
    assert size.dim == 64 * size.heads
    # Each block: 12 D^2 a token for qkv, projection and MLP, and two products of N x N with D.
    blocks = 12 * (12 * tokens * size.dim**2 + 2 * tokens**2 * size.dim)
    assert size.multiply_adds == blocks + (tokens - 1) * size.dim * 3 * patch_size**2
    assert size.multiply_adds_timed < size.multiply_adds
    if billions is not None:  # as DeiT's and DINO's tables have them
        assert size.multiply_adds / 1e9 == pytest.approx(billions, abs=0.05)


def test_a_resnet_has_no_tokens() -> None:
    with torch.device("meta"):
        network = build_backbone(arch="resnet50", patch_size=16, img_size=224)
    size = measure_size(network, 224)
    assert (size.tokens, size.heads, size.blocks, size.head_dim) == (None, None, None, None)
    assert size.dim == 2048
    assert size.parameters == 23_508_032
    assert size.multiply_adds / 1e9 == pytest.approx(4.09, abs=0.01)


def test_other_image_sizes_count_too() -> None:
    network = build_backbone(arch="vit_nano", patch_size=4, img_size=32)
    small, large = (measure_size(network, side) for side in (32, 64))
    assert (small.tokens, large.tokens) == (65, 257)
    assert large.multiply_adds > 4 * small.multiply_adds
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())
