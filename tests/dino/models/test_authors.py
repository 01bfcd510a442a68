"""The networks give what the authors' code gives: stored values always, their live code where it is there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from dino.models import build_backbone
from dino.models.head import ProjectionHead

TOLERANCE = 1e-4
SIZES = [
    ("vit_tiny-16", (224, 224)),
    ("vit_tiny-16", (480, 480)),
    ("vit_tiny-16", (480, 832)),
    ("vit_small-8", (224, 224)),
    ("vit_small-8", (320, 208)),
    pytest.param("vit_small-8", (480, 480), marks=pytest.mark.slow),
]
HEADS = ["trained gain", "frozen gain", "one layer", "batch norm"]


@torch.no_grad()
def our_outputs(maker: ModuleType, case: str, size: tuple[int, int]) -> dict[str, Tensor]:
    settings = maker.CASES[case]
    network = build_backbone(arch=settings["arch"], patch_size=settings["patch_size"], img_size=224).eval()
    maker.fill(network, seed=0)
    x = maker.image(size)
    blocks = network.last_blocks(x, maker.LAST_BLOCKS)
    outputs = {f"block{index - maker.LAST_BLOCKS}": tokens for index, tokens in enumerate(blocks)}
    return outputs | {"cls": network(x), "attention": network.cls_attention(x)}


def our_head(maker: ModuleType, case: str) -> ProjectionHead:
    sizes = dict(maker.HEAD_SIZES)
    head = ProjectionHead(sizes.pop("in_dim"), sizes.pop("out_dim"), **sizes, **maker.HEADS[case])
    maker.fill(head, seed=2)
    return head


@pytest.mark.parametrize(("case", "size"), SIZES)
def test_features_and_attention_are_the_authors(
    maker: ModuleType, golden: dict[str, Any], case: str, size: tuple[int, int]
) -> None:
    expected = golden["backbones"][case][f"{size[0]}x{size[1]}"]
    ours = our_outputs(maker, case, size)
    assert set(ours) == set(expected)
    for name, value in ours.items():
        summary = maker.summary(value)
        for kind, numbers in expected[name].items():
            assert summary[kind] == pytest.approx(numbers, abs=TOLERANCE), (name, kind)


@pytest.mark.parametrize("case", HEADS)
def test_logits_are_the_authors(maker: ModuleType, golden: dict[str, Any], case: str) -> None:
    summary = maker.summary(our_head(maker, case)(maker.head_input()))
    for kind, numbers in golden["heads"][case].items():
        assert summary[kind] == pytest.approx(numbers, abs=1e-5), kind


@pytest.mark.parametrize(("case", "size"), SIZES)
def test_every_entry_is_the_authors_beside_their_code(
    maker: ModuleType, authors_code: Path, case: str, size: tuple[int, int], record_property: Any
) -> None:
    authors = maker.authors_outputs(maker.authors_backbone(authors_code, case), size)
    ours = our_outputs(maker, case, size)
    assert set(ours) == set(authors)
    for name, value in ours.items():
        assert value.shape == authors[name].shape
        difference = float((value - authors[name]).abs().max())
        record_property(name, difference)
        print(f"{case} {size} {name}: {difference:.1e}")
        assert difference < TOLERANCE, name


@pytest.mark.parametrize("case", HEADS)
def test_head_and_its_gradients_are_the_authors_beside_their_code(
    maker: ModuleType, authors_code: Path, case: str
) -> None:
    theirs, ours = maker.authors_head(authors_code, case), our_head(maker, case)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    expected, logits = theirs(maker.head_input()), ours(maker.head_input())
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    expected.square().sum().backward()
    logits.square().sum().backward()
    others = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (others[name].grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, others[name].grad, atol=1e-4, rtol=1e-4, msg=name)
