"""Backbones read from our checkpoints, the authors' layouts and timm's; one-sentence refusals."""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dino.config import RunConfig, config_document
from dino.errors import UserError
from dino.models import build_backbone, build_networks, load_backbone
from dino.models.head import ProjectionHead

CONFIG = RunConfig(
    arch="vit_nano",
    patch_size=4,
    num_heads=2,
    global_crop_size=16,
    local_crop_size=8,
    out_dim=40,
    head_hidden_dim=32,
    head_bottleneck_dim=16,
    seed=5,
)


def same(backbone: nn.Module, expected: dict[str, Tensor]) -> bool:
    state = backbone.state_dict()
    return list(state) == list(expected) and all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, nn.Module, nn.Module]:
    """A checkpoint of ours with a teacher that differs from the student."""
    student, teacher = build_networks(CONFIG)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(0.5)
    document = config_document(CONFIG)
    document |= {
        "format": "dino-checkpoint",
        "version": 1,
        "step": 7,
        "epoch": 2,
        "objective": {"center": torch.ones(3)},
    }
    document |= {"student": student.state_dict(), "teacher": teacher.state_dict()}
    torch.save(document, tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth", student, teacher


def authors_checkpoint(**backbone: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of a full checkpoint in the authors' layout, and its teacher backbone's state dict."""
    networks = [build_backbone(img_size=32, **backbone) for _ in range(2)]
    heads = [ProjectionHead(networks[0].embed_dim, 20, hidden_dim=16, bottleneck_dim=8).state_dict() for _ in range(2)]
    student, teacher = (
        {f"backbone.{name}": value for name, value in network.state_dict().items()}
        | {f"head.{name}": value for name, value in head.items()}
        for network, head in zip(networks, heads, strict=True)
    )
    document = {
        "student": {f"module.{name}": value for name, value in student.items()},
        "teacher": teacher,
        # Their optimizer's learning rates come from a NumPy schedule, and their launcher's folder is a Path.
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-3), "params": [0]}]},
        "epoch": 100,
        "args": argparse.Namespace(arch=backbone["arch"], output_dir=pathlib.PosixPath("/x"), lr=0.1, gpu=None),
        "dino_loss": {"center": torch.zeros(1, 20)},
    }
    return document, networks[1].state_dict()


def test_our_checkpoint_says_everything(ours: tuple[Path, nn.Module, nn.Module]) -> None:
    path, student, teacher = ours
    backbone, info = load_backbone(path)
    assert same(backbone, teacher.backbone.state_dict())
    assert not backbone.training
    document = config_document(CONFIG)
    assert info == {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "dino",
        "key": "teacher",
        "arch": "vit_nano",
        "patch_size": 4,
        "embed_dim": 64,
        "depth": 3,
        "num_heads": 2,
        "img_size": 16,
        "run_id": document["run_id"],
        "fingerprint": document["fingerprint"],
        "step": 7,
        "epoch": 2,
        "seed": 5,
    }
    assert same(load_backbone(path, key="student")[0], student.backbone.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(backbone(x), teacher.eval().backbone(x))


def test_a_compiled_or_wrapped_networks_names_are_read(tmp_path: Path) -> None:
    network = build_backbone(arch="vit_tiny", patch_size=16, img_size=32)
    state = {f"module._orig_mod.backbone.{name}": value for name, value in network.state_dict().items()}
    torch.save({"teacher": state}, tmp_path / "wrapped.pth")
    assert same(load_backbone(tmp_path / "wrapped.pth")[0], network.state_dict())


@pytest.mark.parametrize("zipped", [True, False])
def test_the_authors_full_checkpoint_is_read(tmp_path: Path, zipped: bool) -> None:
    document, teacher = authors_checkpoint(arch="vit_tiny", patch_size=8)
    path = tmp_path / "full.pth"
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    backbone, info = load_backbone(path)
    assert same(backbone, teacher)
    assert (info["layout"], info["arch"], info["patch_size"], info["key"]) == ("authors", "vit_tiny", 8, "teacher")
    backbone, info = load_backbone(path, key="student")
    student = {name.removeprefix("module.backbone."): value for name, value in document["student"].items()}
    assert same(backbone, {name: student[name] for name in teacher})


def test_numpy_scalars_of_numpy_1_are_read(tmp_path: Path) -> None:
    document, teacher = authors_checkpoint(arch="vit_tiny", patch_size=16)
    torch.save(document, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for entry in new.infolist():
            content = new.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(entry.filename, content)
    assert same(load_backbone(tmp_path / "old.pth")[0], teacher)


@pytest.mark.parametrize(("arch", "patch_size"), [("vit_tiny", 16), ("vit_small", 8), ("vit_nano", 4)])
def test_a_bare_backbone_says_its_architecture_by_its_shapes(tmp_path: Path, arch: str, patch_size: int) -> None:
    network = build_backbone(arch=arch, patch_size=patch_size, img_size=32)
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    backbone, info = load_backbone(str(tmp_path / "bare.pth"))
    assert same(backbone, network.state_dict())
    assert (info["arch"], info["patch_size"], info["img_size"]) == (arch, patch_size, 32)
    assert (info["layout"], info["key"], info["fingerprint"]) == ("backbone", None, None)


def test_timms_layout_is_read_without_its_classifier(tmp_path: Path) -> None:
    from timm.models.vision_transformer import VisionTransformer

    timms = VisionTransformer(img_size=32, patch_size=16, embed_dim=192, depth=12, num_heads=3, num_classes=10).eval()
    torch.save({"model": timms.state_dict()}, tmp_path / "timm.pth")
    backbone, info = load_backbone(tmp_path / "timm.pth")
    assert info["arch"] == "vit_tiny"
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone(x), timms.forward_features(x)[:, 0], atol=1e-5, rtol=1e-5)


def test_resnet50_is_recognised(tmp_path: Path) -> None:
    from torchvision.models import resnet50

    network = resnet50()
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    backbone, info = load_backbone(tmp_path / "resnet.pth")
    assert (info["arch"], info["patch_size"], info["embed_dim"]) == ("resnet50", None, 2048)
    assert torch.equal(backbone.state_dict()["layer4.2.conv3.weight"], network.state_dict()["layer4.2.conv3.weight"])
    with pytest.raises(UserError, match="holds a resnet50, not a vit_small"):
        load_backbone(tmp_path / "resnet.pth", arch="vit_small")


def test_a_configuration_describes_what_the_file_does_not(tmp_path: Path) -> None:
    config = RunConfig(arch="vit_tiny", patch_size=4, embed_dim=80, depth=2, num_heads=5, global_crop_size=32)
    network = build_backbone(arch="vit_tiny", patch_size=4, img_size=32, embed_dim=80, depth=2, num_heads=5).eval()
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="width 80 and depth 2.*give --arch"):
        load_backbone(tmp_path / "bare.pth")
    backbone, info = load_backbone(tmp_path / "bare.pth", config=config)
    assert info["num_heads"] == 5
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone(x), network(x))


def test_random_weights_are_drawn_from_the_configurations_seed() -> None:
    state = torch.get_rng_state()
    backbone, info = load_backbone("random", config=CONFIG)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    assert (info["layout"], info["seed"], info["sha256"], info["num_heads"]) == ("random", 5, None, 2)
    torch.manual_seed(CONFIG.seed)
    student, _ = build_networks(CONFIG)
    assert same(backbone, student.backbone.state_dict())
    assert load_backbone("random", arch="vit_tiny", patch_size=8)[1]["patch_size"] == 8
    with pytest.raises(UserError, match="give --arch"):
        load_backbone("random")
    with pytest.raises(UserError, match="random is a vit_nano, not a vit_tiny"):
        load_backbone("random", config=CONFIG, arch="vit_tiny")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.pth: no such checkpoint file"):
        load_backbone(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="is a folder: give the checkpoint file in it"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path, part: float, zipped: bool) -> None:
    path = tmp_path / "whole.pth"
    torch.save(
        build_backbone(arch="vit_nano", patch_size=4, img_size=32).state_dict(),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    content = path.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=r"cut\.pth is no readable PyTorch checkpoint"):
        load_backbone(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [b"hello, world\n", b"\x89PNG\r\n\x1a\n" + bytes(100), pickle.dumps([1, 2])])
def test_other_kinds_of_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pth"):
        load_backbone(tmp_path / "other.pth")


class Opens:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save({"teacher": Opens(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds objects of type .*open, which are never loaded"):
        load_backbone(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def test_an_unknown_key_lists_the_known_ones(ours: tuple[Path, nn.Module, nn.Module]) -> None:
    with pytest.raises(
        UserError, match="no network 'techer' \\(it holds 'student', 'teacher'\\); did you mean 'teacher'"
    ):
        load_backbone(ours[0], key="techer")


def test_contradictions_name_both_sides(ours: tuple[Path, nn.Module, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a vit_nano, not a vit_small: leave out --arch"):
        load_backbone(ours[0], arch="vit_small")
    with pytest.raises(UserError, match="patches of 4 pixels, not 8: leave out --patch-size"):
        load_backbone(ours[0], patch_size=8)
    torch.save(build_backbone(arch="vit_tiny", patch_size=16, img_size=32).state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(UserError, match="width 192 and depth 12 with 16-pixel patches, not vit_small with 16-pixel"):
        load_backbone(tmp_path / "tiny.pth", arch="vit_small")
    with pytest.raises(UserError, match="not vit_tiny with 8-pixel patches"):
        load_backbone(tmp_path / "tiny.pth", patch_size=8)
    with pytest.raises(UserError, match="not a resnet50"):
        load_backbone(tmp_path / "tiny.pth", arch="resnet50")


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    state = build_backbone(arch="vit_tiny", patch_size=16, img_size=32).state_dict()
    torch.save({name: value for name, value in state.items() if name != "norm.bias"}, tmp_path / "less.pth")
    with pytest.raises(UserError, match="does not fit vit_tiny: norm.bias is missing \\(1 such\\)"):
        load_backbone(tmp_path / "less.pth")
    torch.save(state | {"mask_token": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match="mask_token is unknown \\(1 such\\)"):
        load_backbone(tmp_path / "more.pth")
    torch.save(state | {"norm.bias": torch.zeros(7)}, tmp_path / "shape.pth")
    with pytest.raises(UserError, match=r"norm.bias has shape \(7,\) instead of \(192,\)"):
        load_backbone(tmp_path / "shape.pth")
    torch.save({"a.b": torch.zeros(1)}, tmp_path / "tensors.pth")
    with pytest.raises(UserError, match="holds neither a ViT"):
        load_backbone(tmp_path / "tensors.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weights that this program knows \\(its keys: 'epoch'\\)"):
        load_backbone(tmp_path / "none.pth")
    torch.save({"teacher": {"head.mlp.0.weight": torch.zeros(2)}}, tmp_path / "head.pth")
    with pytest.raises(UserError, match="only a head"):
        load_backbone(tmp_path / "head.pth")
