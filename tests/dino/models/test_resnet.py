"""ResNet-50 without its classifier."""

from __future__ import annotations

import pytest
import torch

from dino.errors import UserError
from dino.models import build_backbone


def test_resnet50_gives_2048_pooled_features_from_23_5_million_parameters() -> None:
    network = build_backbone(arch="resnet50", patch_size=16, img_size=224).eval()
    assert network.embed_dim == 2048
    with torch.no_grad():
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 2048)
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_508_032
    assert not [name for name in network.state_dict() if name.startswith("fc")]


def test_resnet50_has_a_fixed_shape() -> None:
    with pytest.raises(UserError, match="fixed shape"):
        build_backbone(arch="resnet50", patch_size=16, img_size=224, depth=3)
