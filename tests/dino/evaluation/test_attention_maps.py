"""Attention maps, their masks and the Jaccard index: the authors' values, and what a mask is by definition."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dino.errors import UserError
from dino.evaluation.attention_maps import attention_maps, enlarge, keep_mass
from dino.evaluation.masks.jaccard import count_objects, jaccard
from dino.evaluation.pictures import Picture, prepare
from dino.models import build_backbone

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
RESULTS = json.loads((GOLDEN / "masks.json").read_text(encoding="utf-8"))["results"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """`tests/golden/make_masks.py`, for its pictures and labels."""
    load("make_backbone")
    return load("make_masks")


def ours(maker: ModuleType, case: dict[str, Any]) -> tuple[Picture, torch.Tensor, int]:
    arch, patch_size = maker.ARCHITECTURES[case["weights"]]
    network = build_backbone(arch=arch, patch_size=patch_size, img_size=224).eval()
    with torch.no_grad():
        sys.modules["make_backbone"].fill(network, seed=0)
    size = case["image_size"]
    shown = prepare(
        maker.picture(case["picture"]), image_size=size[0], keep_aspect=len(size) == 1, patch_size=patch_size
    )
    return shown, attention_maps(network, [shown.pixels], device=torch.device("cpu"))[0, :, 0], patch_size


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: "{weights} {image_size} {mass}".format(**result["case"]))
def test_maps_masks_and_jaccard_are_the_authors(maker: ModuleType, result: dict[str, Any]) -> None:
    shown, attention, patch_size = ours(maker, result["case"])
    assert list(attention.shape[1:]) == result["grid"]
    summary = maker.summary(attention)
    for kind, numbers in result["attention"].items():
        assert summary[kind] == pytest.approx(numbers, abs=1e-6), kind
    masks = keep_mass(attention.flatten(1), result["case"]["mass"]).numpy()
    assert ["".join("01"[int(bit)] for bit in mask) for mask in masks] == result["masks"]
    labels = maker.labels(*shown.pixels.shape[:2])
    for void, name in (("background", "jaccard"), ("ignore", "jaccard_without_void")):
        overlaps = jaccard(masks, count_objects(labels, patch_size, void=void))
        assert overlaps.max(axis=1).mean() == pytest.approx(result[name], abs=1e-12), void


rows_of_attention = st.lists(st.lists(st.floats(1e-6, 1.0), min_size=12, max_size=12), min_size=1, max_size=3).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64)
)


@settings(max_examples=60, deadline=None)
@given(rows_of_attention, st.floats(0.05, 0.95))
def test_a_mask_is_the_smallest_set_with_the_mass(attention: torch.Tensor, mass: float) -> None:
    kept = keep_mass(attention, mass)
    for row, mask in zip(attention, kept, strict=True):
        share = row / row.sum()
        assert float(share[mask].sum()) >= mass - 1e-9
        # Without its smallest patch the mask would hold less, and no patch outside is larger than one inside.
        assert float(share[mask].sum() - share[mask].min()) <= mass + 1e-9
        if not bool(mask.all()):
            assert float(row[~mask].max()) <= float(row[mask].min())


def test_uniform_attention_keeps_as_many_patches_as_mass() -> None:
    assert keep_mass(torch.full((2, 100), 0.01, dtype=torch.float64), 0.605).sum(dim=-1).tolist() == [61, 61]
    assert bool(keep_mass(torch.rand(3, 50) + 0.1, 1.0).all())


def test_the_share_of_cls_does_not_matter() -> None:
    attention = torch.rand(4, 30)
    assert torch.equal(keep_mass(attention, 0.6), keep_mass(attention * 0.125, 0.6))


def test_enlarged_patches_are_squares_of_their_value() -> None:
    big = enlarge(np.array([[1, 2], [3, 4]]), 3)
    assert big.shape == (6, 6)
    assert np.array_equal(big, np.kron([[1, 2], [3, 4]], np.ones((3, 3), dtype=int)))


def test_attention_that_is_not_finite_is_an_error() -> None:
    network = build_backbone(arch="vit_nano", patch_size=8, img_size=32).eval()
    with torch.no_grad():
        network.blocks[0].mlp.fc1.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="its weights have diverged"):
        attention_maps(network, [np.zeros((32, 32, 3), np.uint8)], device=torch.device("cpu"))
