"""ResNets without their classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dino.errors import UserError
from dino.models import build_backbone, load_backbone


def test_resnet50_gives_2048_pooled_features_from_23_5_million_parameters() -> None:
    network = build_backbone(arch="resnet50", patch_size=16, img_size=224).eval()
    assert network.embed_dim == 2048
    with torch.no_grad():
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 2048)
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_508_032
    assert not [name for name in network.state_dict() if name.startswith("fc")]


@pytest.mark.parametrize("arch", ["resnet_nano", "resnet50"])
def test_resnets_have_a_fixed_shape(arch: str) -> None:
    with pytest.raises(UserError, match="fixed shape"):
        build_backbone(arch=arch, patch_size=16, img_size=224, depth=3)


@pytest.mark.parametrize("arch", ["resnet_nano", "resnet50"])
def test_a_resnet_is_known_by_its_weights(arch: str, tmp_path: Path) -> None:
    network = build_backbone(arch=arch, patch_size=16, img_size=224)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded, info = load_backbone(tmp_path / "weights.pth")
    assert info["arch"] == arch
    assert info["embed_dim"] == loaded.embed_dim == network.embed_dim
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), network.eval()(images))
