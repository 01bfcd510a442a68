"""What is known of released weights, and that their layouts load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dino.config import ARCHITECTURES
from dino.errors import UserError
from dino.models import build_backbone, load_backbone
from dino.released import RELEASED, find_weights, missing_weights_reason, weights_file, weights_folder


def test_every_file_has_its_own_name_an_architecture_and_an_https_address():
    assert len({weights.file_name for weights in RELEASED.values()}) == len(RELEASED)
    for weights in RELEASED.values():
        assert weights.url.startswith("https://")
        assert weights.arch in ARCHITECTURES
        assert weights.file_name.endswith(".pth")
        # torch's convention: the digits after the last dash are the hash's first ones.
        suffix = weights.file_name.removesuffix(".pth").rpartition("-")[2]
        assert weights.sha256 == (suffix if "-" in weights.file_name else "")


def test_the_authors_addresses_are_those_of_their_hubconf(authors_code: Path):
    text = (authors_code / "hubconf.py").read_text() + (authors_code / "README.md").read_text()
    text += (authors_code / "visualize_attention.py").read_text()
    for name, weights in RELEASED.items():
        if name.startswith("dino_"):
            assert weights.url in text or weights.url.split("/dino/")[1] in text


def test_the_folder_is_results_weights_or_what_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("DINO_WEIGHTS", raising=False)
    assert weights_folder() == Path("results/weights")
    monkeypatch.setenv("DINO_WEIGHTS", str(tmp_path))
    assert weights_file("deit_small") == tmp_path / "deit_small_patch16_224-cd65a155.pth"
    reason = missing_weights_reason("deit_small")
    assert reason is not None
    assert reason.endswith("are not here: `dino fetch deit_small`")
    weights_file("deit_small").touch()
    assert missing_weights_reason("deit_small") is None


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match="no released weights 'dino_vits61'; did you mean 'dino_vits16'"):
        find_weights("dino_vits61")


def test_it_imports_neither_torch_nor_numpy():
    code = "import sys, dino.released; print({'torch', 'numpy', 'urllib.request'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def save(
    path: Path, arch: str, patch_size: int, extra: dict[str, torch.Tensor], *, wrap: bool
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = build_backbone(arch=arch, patch_size=patch_size, img_size=224).state_dict()
    torch.save({"model": {**state, **extra}} if wrap else {**state, **extra}, path)
    return state


def test_deits_layout_loads_without_its_classifier(tmp_path: Path):
    classifier = {"head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}
    state = save(tmp_path / "deit.pth", "vit_tiny", 16, classifier, wrap=True)
    backbone, info = load_backbone(tmp_path / "deit.pth")
    assert (info["arch"], info["patch_size"], info["layout"]) == ("vit_tiny", 16, "backbone")
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


def test_torchvisions_resnet_loads_without_its_classifier(tmp_path: Path):
    classifier = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    state = save(tmp_path / "resnet.pth", "resnet50", 1, classifier, wrap=False)
    backbone, info = load_backbone(tmp_path / "resnet.pth")
    assert (info["arch"], info["layout"]) == ("resnet50", "backbone")
    assert torch.equal(backbone.state_dict()["conv1.weight"], state["conv1.weight"])
