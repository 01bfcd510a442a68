from __future__ import annotations

import pytest
import torch

from dino.errors import UserError
from dino.evaluation.linear.features import JointFeature, default_headline
from dino.models import build_backbone


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return build_backbone(arch="vit_nano", patch_size=4, img_size=16, depth=5).eval()


@torch.no_grad()
def test_each_feature_is_the_tokens_that_it_names(vit) -> None:
    images = torch.randn(3, 3, 16, 16)
    joint = JointFeature(vit)
    assert list(joint.columns) == ["l1", "l2", "l4", "l6", "pool"]
    value = joint(images)
    assert value.shape == (3, joint.width) == (3, 6 * 64)
    blocks = vit.last_blocks(images, 5)
    cls = [tokens[:, 0] for tokens in blocks]
    expected = {f"l{n}": torch.cat(cls[-n:], dim=1) for n in (1, 2, 4)}
    expected["l6"] = torch.cat(cls, dim=1)  # the network has five blocks
    expected["pool"] = torch.cat([cls[-1], blocks[-1][:, 1:].mean(dim=1)], dim=1)
    for name, part in joint.columns.items():
        torch.testing.assert_close(value[:, part], expected[name], msg=name)


@torch.no_grad()
def test_a_last_block_alone_is_the_networks_own_output(vit) -> None:
    images = torch.randn(2, 3, 16, 16)
    joint = JointFeature(vit, ["l1"])
    assert (joint.width, joint.columns) == (64, {"l1": slice(0, 64)})
    assert torch.equal(joint(images), vit(images))
    torch.testing.assert_close(joint(images), vit.last_blocks(images, 1)[0][:, 0])


@torch.no_grad()
def test_a_resnet_has_its_pooled_map() -> None:
    resnet = build_backbone(arch="resnet_nano", patch_size=16, img_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    joint = JointFeature(resnet)
    assert joint.columns == {"pooled": slice(0, 128)}
    assert torch.equal(joint(images), resnet(images))
    with pytest.raises(UserError, match="a ResNet has no tokens"):
        JointFeature(resnet, ["l4"])


def test_a_vit_has_no_pooled_map(vit) -> None:
    with pytest.raises(UserError, match="the feature of a ResNet"):
        JointFeature(vit, ["l1", "pooled"])


def test_headlines_are_the_papers(vit) -> None:
    resnet = build_backbone(arch="resnet_nano", patch_size=16, img_size=32)
    assert default_headline("vit_small", vit) == "l4"
    assert default_headline("vit_base", vit) == "pool"
    assert default_headline("resnet_nano", resnet) == "pooled"
