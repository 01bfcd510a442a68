from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dino.cli import main
from dino.evaluation.features.files import read_features
from dino.metrics import read_metrics

SHAPE = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "4", "--image-size", "16", "--device", "cpu"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of colour, which even random weights tell apart."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name, colour in (("blue", (255, 0, 0)), ("red", (0, 0, 255))):
            target = tmp_path / "colours" / split / name
            target.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-40, 40, (16, 16, 3))
                cv2.imwrite(str(target / f"{number}.png"), np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
    return tmp_path / "colours"


def test_two_splits_in_one_process_then_knn(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = tmp_path / "train.npz", tmp_path / "test.npz"
    splits = ["--split", "train", "--output", str(train), "--split", "test", "--output", str(test)]
    assert main(["features", *SHAPE, "--data", str(data), *splits, "--seed", "7"]) == 0
    assert (len(read_features(train).labels), len(read_features(test).labels)) == (16, 6)
    assert read_features(test).meta.seed == 7
    output = tmp_path / "knn.json"
    files = ["--train-features", str(train), "--test-features", str(test)]
    assert main(["knn", *files, "--output", str(output), "--k", "1", "5", "--headline-k", "5"]) == 0
    document = read_metrics(output)
    assert document.metrics["top1"].value == 100.0
    assert (document.data.train, document.data.test, document.seed) == (16, 6, 7)
    assert document.data.test_digest != document.data.digest


def test_knn_of_a_checkpoint_makes_and_keeps_its_features(data: Path, tmp_path: Path) -> None:
    command = ["knn", *SHAPE, "--data", str(data), "--output", str(tmp_path / "o.json"), "--headline-k", "3"]
    assert main([*command, "--quiet", "--features-dir", str(tmp_path / "kept")]) == 0
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["features-colours-test.npz", "features-colours-train.npz"]
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "kept").iterdir())]
    first = json.loads((tmp_path / "o.json").read_text())["metrics"]
    assert main([*command, "--quiet", "--features-dir", str(tmp_path / "kept")]) == 0
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "kept").iterdir())] == times
    assert json.loads((tmp_path / "o.json").read_text())["metrics"] == first


def test_default_split_is_test(data: Path, tmp_path: Path) -> None:
    assert main(["features", *SHAPE, "--data", str(data), "--output", str(tmp_path / "f.npz"), "--quiet"]) == 0
    assert read_features(tmp_path / "f.npz").meta.data.split == "test"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--split", "train", "--output", "a.npz", "--output", "b.npz"], "1 --split but 2 --output"),
        (["--split", "train", "--split", "test", "--output", "a.npz", "--output", "a.npz"], "the same file"),
        (["--output", "a.npz", "--resize", "8"], "--resize 8 is smaller"),
    ],
)
def test_mistakes_are_one_sentence(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["features", *SHAPE, "--data", str(data), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*.npz"))
