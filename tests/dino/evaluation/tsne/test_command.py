from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino.cli import main
from dino.evaluation.features.files import write_features
from tests.dino.evaluation.tsne.test_embedding import features

QUICK = ["--iterations", "250"]


@pytest.fixture
def feature_file(tmp_path: Path) -> Path:
    given, path = features(8), tmp_path / "f.npz"
    paths = ["x"] * len(given.labels)
    write_features(path, features=given.features, labels=given.labels, paths=paths, meta=given.meta)
    return path


def test_figure_and_coordinates_from_features(
    feature_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, document = tmp_path / "t.png", tmp_path / "t.json"
    assert (
        main(["tsne", "--features", str(feature_file), "--output", str(figure), "--json", str(document), *QUICK]) == 0
    )
    assert Image.open(figure).size[0] > 600
    content = json.loads(document.read_text())
    assert [entry["name"] for entry in content["classes"]] == [f"class {number}" for number in range(8)]
    assert all(entry["images"] == 4 and np.isfinite([entry["x"], entry["y"]]).all() for entry in content["classes"])
    assert content["settings"]["asked_for"] == {"pca": 30, "perplexity": 20.0}
    assert content["data"]["name"] == "toy"
    assert "t-SNE of 8 classes" in capsys.readouterr().out


def test_figure_from_a_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog"):
        for number in range(2):
            path = tmp_path / "data" / "test" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    command = ["tsne", "--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8", "--image-size", "16"]
    command += ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "t.svg"), "--workers", "0", *QUICK]
    assert main(command) == 0
    text = (tmp_path / "t.svg").read_text()
    assert "vit_nano" in text
    assert "bee" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --features, or --checkpoint and --data"),
        (["--checkpoint", "random"], "--checkpoint needs --data"),
        (["--features", "gone.npz"], "gone.npz: no such feature file"),
        (["--features", "gone.npz", "--output", "t.jpg"], "unknown kind of picture"),
        (["--features", "gone.npz", "--iterations", "10"], "--iterations 10"),
        (["--features", "gone.npz", "--perplexity", "0"], "must be above 0"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tsne", "--output", "t.png", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
