from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dino.cli import main
from dino.metrics import read_metrics
from dino.models import build_backbone

QUICK = ["--image-size", "16", "--batch-sizes", "4", "1", "--seconds", "0.01", "--device", "cpu"]


def test_metrics_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "t.json"
    assert main(["throughput", "--arch", "vit_nano", "--patch-size", "4", *QUICK, "--output", str(output)]) == 0
    document = read_metrics(output)
    values = {name: (measure.value, measure.unit) for name, measure in document.metrics.items()}
    for name, count in {"tokens": 17, "dim": 64, "blocks": 3, "heads": 4, "head_dim": 16}.items():
        assert values[name] == (count, "count")
    assert values["params"] == (sum(p.numel() for p in network().parameters()) / 1e6, "M")
    assert values["im_per_s"] == values["im_per_s_b4"]
    assert {values[name][1] for name in ("im_per_s", "im_per_s_b1")} == {"im/s"}
    assert all(values[name][0] > 0 for name in ("im_per_s", "im_per_s_b1", "gflops", "gflops_timed", "peak_memory"))
    assert values["peak_memory"][1] == "MiB"
    assert document.settings["headline_batch"] == 4
    assert any("the paper's is at 128" in note for note in document.notes)
    assert (document.data.name, document.chance, document.checkpoint.path) == (None, None, "random")
    assert "batch     4" in capsys.readouterr().out


def network() -> torch.nn.Module:
    return build_backbone(arch="vit_nano", patch_size=4, img_size=16)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_a_checkpoint(tmp_path: Path, precision: str) -> None:
    torch.save(network().state_dict(), tmp_path / "c.pth")
    output = tmp_path / "t.json"
    command = ["throughput", "--checkpoint", str(tmp_path / "c.pth"), "--arch", "vit_nano", *QUICK]
    assert main([*command, "--precision", precision, "--channels-last", "--quiet", "--output", str(output)]) == 0
    document = read_metrics(output)
    assert document.settings["precision"] == precision
    assert document.checkpoint.sha256 is not None


def test_a_resnet_has_no_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "t.json"
    assert main(["throughput", "--arch", "resnet_nano", *QUICK, "--output", str(output)]) == 0
    names = set(json.loads(output.read_text())["metrics"])
    assert names.isdisjoint({"tokens", "blocks", "heads", "head_dim"})
    assert {"dim", "params", "gflops", "im_per_s_b1"} < names
    assert "tokens" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --checkpoint, or --arch and --patch-size"),
        (["--arch", "vit_nano", "--seconds", "0"], "--seconds 0: must be above 0"),
        (["--arch", "vit_nano", "--patch-size", "8", "--image-size", "4"], "smaller than patch_size (8)"),
        (["--arch", "vit_huge"], "vit_huge"),
        (["--checkpoint", "gone.pth"], "gone.pth: no such checkpoint file"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    output = tmp_path / "t.json"
    assert main(["throughput", *arguments, "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()
