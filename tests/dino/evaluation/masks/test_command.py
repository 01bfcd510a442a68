from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino.cli import main
from dino.metrics import read_metrics
from tests.dino.evaluation.masks.scenes import write_list, write_scene

NETWORK = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8"]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    for name, size in (("a", (32, 48)), ("b", (48, 32))):
        write_scene(root, name, size, {1: (0, 0, 16, 16), 2: (16, 16, 32, 32)})
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.png")
    write_list(root, "val", ["a", "b"])
    return root


def test_metrics_file(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "masks.json"
    command = ["masks", *NETWORK, "--data", str(scenes), "--image-size", "32", "--output", str(output)]
    assert main([*command, "--device", "cpu", "--seed", "3"]) == 0
    document = read_metrics(output)
    names = {"jaccard", "jaccard_80", "jaccard_instances", "jaccard_instances_80", "jaccard_single_head"}
    assert set(document.metrics) == names
    assert all(
        measure.unit == "%" and measure.n == 2 and 0 < measure.value < 60 for measure in document.metrics.values()
    )
    assert (document.protocol, document.seed, document.chance, document.data.test) == ("masks", 3, None, 2)
    assert document.data.test_digest is not None
    assert document.settings["model"]["arch"] == "vit_nano"
    assert "jaccard_instances_80" in capsys.readouterr().out
    assert main([*command, "--seed", "4", "--quiet"]) == 0
    assert read_metrics(output).metrics != document.metrics
    assert capsys.readouterr().out == ""


def test_a_resnet_has_no_attention(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["masks", "--checkpoint", "random", "--arch", "resnet_nano", "--data", str(scenes)]
    assert main([*command, "--output", str(tmp_path / "m.json")]) == 2
    assert (
        "random is a resnet_nano, which has no attention heads: give a checkpoint of a ViT" in capsys.readouterr().err
    )
    assert not (tmp_path / "m.json").exists()


@pytest.mark.reference
def test_random_weights_on_voc(reference_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "masks.json"
    command = ["masks", *NETWORK, "--data", str(reference_data / "voc"), "--image-size", "96"]
    assert main([*command, "--quiet", "--output", str(output)]) == 0
    document = read_metrics(output)
    assert (document.data.test, document.settings["objects"]) == (6, 9)
    # Nearly uniform attention: masks of 60 % of all patches, whatever the object.
    assert 10 < document.metrics["jaccard"].value < 25
