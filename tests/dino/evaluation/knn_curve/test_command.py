from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino.cli import main
from dino.evaluation.knn_curve.points import CurvePoint, KeptPoints
from dino.metrics import read_metrics
from tests.dino.training.tiny import tiny_config, train


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of tinted noise, 12 training and 6 test images each."""
    folder = tmp_path_factory.mktemp("data") / "tints"
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for channel, name in enumerate(("red", "green", "blue")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 60
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_config(), folder, snapshots=3)
    return folder


def arguments(run_dir: Path, images: Path, output: Path, *more: str) -> list[str]:
    return [
        *("knn_curve", "--snapshots", str(run_dir / "snapshots"), "--data", str(images), "--output", str(output)),
        *("--k", "5", "--device", "cpu", "--workers", "0", *more),
    ]


def accuracy(run_dir: Path, images: Path, folder: Path, epoch: int, key: str) -> float:
    """What ``dino knn`` says of one network of one snapshot."""
    snapshot = run_dir / "snapshots" / f"epoch-{epoch}.pth"
    output = folder / f"{key}-{epoch}.json"
    command = [
        *("knn", "--checkpoint", str(snapshot), "--checkpoint-key", key, "--data", str(images), "--k", "5"),
        *("--headline-k", "5", "--output", str(output), "--device", "cpu", "--workers", "0", "--quiet"),
    ]
    assert main(command) == 0
    return float(json.loads(output.read_text())["metrics"]["top1"]["value"])


def test_each_point_is_what_dino_knn_gives(
    run_dir: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "knn_curve.json"
    assert main(arguments(run_dir, images, output)) == 0
    document = read_metrics(output)
    metrics = {name: measure.value for name, measure in document.metrics.items()}
    assert document.settings["epochs"] == [1, 2, 3]
    expected = {
        f"{key}_e{epoch}": accuracy(run_dir, images, tmp_path, epoch, key)
        for epoch in (1, 2, 3)
        for key in ("teacher", "student")
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    gaps = [expected[f"teacher_e{epoch}"] - expected[f"student_e{epoch}"] for epoch in (1, 2, 3)]
    assert metrics["teacher_minus_student"] == pytest.approx(sum(gaps) / 3)
    assert metrics["smallest_gap"] == pytest.approx(min(gaps))
    assert (metrics["top1"], metrics["student_top1"]) == (metrics["teacher_e3"], metrics["student_e3"])
    assert document.fingerprint == torch.load(run_dir / "checkpoint.pth")["fingerprint"]
    assert (document.data.train, document.data.test, document.chance) == (36, 18, pytest.approx(100 / 3))
    assert not list(tmp_path.glob(".*"))
    assert "teacher minus student" in capsys.readouterr().out


def test_a_stopped_job_goes_on_with_the_next_snapshot(
    run_dir: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dino.evaluation.knn_curve import protocol

    measure, seen = protocol._Curve.measure, []

    def count(self: protocol._Curve, epoch: int, *rest: object) -> CurvePoint:
        seen.append(epoch)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return measure(self, epoch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol._Curve, "measure", count)
    assert main(arguments(run_dir, images, tmp_path / "a.json", "--quiet")) == 130
    assert not (tmp_path / "a.json").exists()
    assert main(arguments(run_dir, images, tmp_path / "a.json", "--quiet")) == 0
    assert seen == [1, 2, 3, 3]
    assert main(arguments(run_dir, images, tmp_path / "b.json", "--quiet")) == 0
    first, second = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("a.json", "b.json"))
    assert first == second


def test_kept_points_of_other_settings_or_snapshots_are_not_used(tmp_path: Path) -> None:
    point = CurvePoint(epoch=1, sha256="aa", total=10, both=5, teacher_only=2, student_only=1)
    KeptPoints(tmp_path / "o.json", {"k": 5}).add(point)
    assert KeptPoints(tmp_path / "o.json", {"k": 5}).get(1, "aa") == point
    assert KeptPoints(tmp_path / "o.json", {"k": 5}).get(1, "bb") is None
    assert KeptPoints(tmp_path / "o.json", {"k": 20}).get(1, "aa") is None
    (tmp_path / ".o.partial").write_text("{")
    assert KeptPoints(tmp_path / "o.json", {"k": 5}).get(1, "aa") is None


def test_the_gap_is_a_paired_difference() -> None:
    point = CurvePoint(epoch=1, sha256="", total=1000, both=500, teacher_only=80, student_only=20)
    assert (point.teacher.value, point.student.value) == (58.0, 52.0)
    assert point.gap.value == pytest.approx(6.0)
    spread = np.std(np.repeat([1.0, -1.0, 0.0], [81, 21, 898]))
    assert point.gap.error == pytest.approx(100 * spread / 1000**0.5, rel=0.01)
    assert CurvePoint(epoch=1, sha256="", total=50, both=50, teacher_only=0, student_only=0).gap.error > 0


def test_mistakes_are_one_sentence(
    run_dir: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, images, tmp_path / "o.json")) == 2
    assert "dino pretrain --snapshots N" in capsys.readouterr().err
    assert main(arguments(run_dir, images, tmp_path / "o.json", "--k", "37")) == 2
    assert "larger than the training set of 36 images" in capsys.readouterr().err
    (tmp_path / "snapshots").mkdir()
    train(tiny_config(seed=4), tmp_path / "other", snapshots=1)
    (tmp_path / "snapshots" / "epoch-1.pth").write_bytes((run_dir / "snapshots" / "epoch-1.pth").read_bytes())
    (tmp_path / "other" / "snapshots" / "epoch-3.pth").rename(tmp_path / "snapshots" / "epoch-3.pth")
    assert main(arguments(tmp_path, images, tmp_path / "o.json")) == 2
    assert "is of the run" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()


def test_a_supervised_run_has_no_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", "--recipe", "supervised_vits8", "--run-dir", str(tmp_path / "run"), "--snapshots", "3"]
    assert main(command) == 2
    assert "a supervised run has none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
