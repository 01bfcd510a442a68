from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino.cli import main
from dino.evaluation.features.files import FeatureData, FeatureMeta, write_features
from dino.metrics import CheckpointIdentity, read_metrics

CLASSES = ["ant", "bee", "cat"]


def meta(split: str, images: int, **changes: Any) -> FeatureMeta:
    values: dict[str, Any] = {
        "run_id": "dino-vitn4-1ep-s3-0123456789",
        "fingerprint": "0123456789",
        "seed": 3,
        "code_version": 1,
        "checkpoint": CheckpointIdentity(path="c.pth", sha256="ff", key="teacher"),
        "data": FeatureData(
            name="world", version="v1", digest=f"abc-{split}", split=split, classes=CLASSES, images=images
        ),
    }
    return FeatureMeta(**{**values, **changes})


def write_pair(folder: Path, *, train: int = 60, test: int = 30, width: int = 8, **changes: Any) -> list[str]:
    """Feature files of three well-separated classes; returns the command line that names them."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((3, 16))[:, :width]
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 3
        features = centres[labels] + rng.standard_normal((count, width))
        identity = meta(split, count, **(changes if split == "test" else {}))
        write_features(
            folder / f"{split}.npz",
            features=features,
            labels=labels,
            paths=[f"{name}.png" for name in range(count)],
            meta=identity,
        )
    return arguments(folder / "train.npz", folder / "test.npz", folder / "knn.json")


def write_multilabel(folder: Path) -> list[str]:
    """Feature files of 60 and 30 images that show one or two of three classes; returns the command line."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((3, 8))
    for split, count in (("train", 60), ("test", 30)):
        table = np.zeros((count, 3), np.int8)
        table[np.arange(count), np.arange(count) % 3] = 1
        table[::5, 1] = 1
        table[3, 2] = -1
        features = table.clip(0) @ centres + rng.standard_normal((count, 8))
        names = [f"{row:06d}.jpg" for row in range(count)]
        write_features(folder / f"{split}.npz", features=features, labels=table, paths=names, meta=meta(split, count))
    return arguments(folder / "train.npz", folder / "test.npz", folder / "knn.json")


def arguments(train: Path, test: Path, output: Path) -> list[str]:
    return ["knn", "--train-features", str(train), "--test-features", str(test), "--output", str(output)]


def test_metrics_file_from_two_feature_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*write_pair(tmp_path), "--k", "5", "20", "--headline-k", "5", "--device", "cpu"]) == 0
    document = read_metrics(tmp_path / "knn.json")
    assert set(document.metrics) == {"top1", "top5", "top1_best_k", "top1_k5", "top5_k5", "top1_k20", "top5_k20"}
    assert document.metrics["top1"] == document.metrics["top1_k5"]
    assert document.metrics["top1"].value > 90
    assert document.metrics["top1"].n == 30
    assert document.chance == pytest.approx(100 / 3)
    assert (document.run_id, document.fingerprint, document.seed) == (meta("", 0).run_id, "0123456789", 3)
    assert (document.data.name, document.data.digest, document.data.train) == ("world", "abc-train", 60)
    assert document.checkpoint.sha256 == "ff"
    assert document.settings["k"] == [5, 20]
    table = capsys.readouterr().out
    assert "30 test images" in table
    assert "headline" in table


def test_features_from_elsewhere_are_used_and_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", features=rng.standard_normal((25, 4)), labels=np.arange(25) % 5)
    assert main(arguments(tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "o.json")) == 0
    document = read_metrics(tmp_path / "o.json")
    assert (document.run_id, document.seed, document.data.name, document.checkpoint.sha256) == (None,) * 4
    assert document.chance == 20.0
    assert sum("identity is unknown" in note for note in document.notes) == 2
    # k = 100 and 200 are beyond the 25 training images: left out, and said so
    assert document.settings["k"] == [10, 20]
    assert sum("left out: the training set has 25 images" in note for note in document.notes) == 2


def test_share_of_the_training_images_is_taken_and_recorded(tmp_path: Path) -> None:
    command = [*write_pair(tmp_path), "--k", "5", "--headline-k", "5", "--quiet"]
    digests = []
    for extra in (["--subset", "0.2"], ["--subset", "0.2", "--subset-seed", "1"], []):
        assert main([*command, *extra]) == 0
        document = read_metrics(tmp_path / "knn.json")
        subset = document.settings["subset"]
        digests.append(subset and subset.pop("digest"))
        assert document.data.train == (12 if extra else 60)
    assert subset is None
    assert len({*digests}) == 3


def test_several_labels_an_image_give_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*write_multilabel(tmp_path), "--k", "5", "20", "--headline-k", "5"]) == 0
    document = read_metrics(tmp_path / "knn.json")
    names = {"map", "map_11point", "map_best_k", "map_k5", "map_11point_k5", "map_k20", "map_11point_k20"}
    assert set(document.metrics) == names
    assert document.metrics["map"] == document.metrics["map_k5"]
    assert document.metrics["map"].value > 90
    assert document.chance == pytest.approx(100 * np.mean([12 / 30, 14 / 30, 10 / 29]), abs=3)
    assert document.data.classes == 3
    assert "mAP %" in capsys.readouterr().out


def test_list_of_names_chooses_the_training_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*write_multilabel(tmp_path), "--k", "3", "--headline-k", "3", "--quiet"]
    (tmp_path / "list.txt").write_text("000000.jpg\n000001.jpg\n000002.jpg\n000005.jpg\n")
    assert main([*command, "--subset-list", str(tmp_path / "list.txt")]) == 0
    document = json.loads((tmp_path / "knn.json").read_text())
    assert document["settings"]["subset"]["images"] == document["data"]["train"] == 4
    assert main([*command, "--subset-list", str(tmp_path / "list.txt"), "--subset", "0.1"]) == 2
    assert "not both" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text("image-7.jpg\n")
    assert main([*command, "--subset-list", str(tmp_path / "list.txt")]) == 2
    assert "1 of 1 names are of no training image (the first: 'image-7.jpg'" in capsys.readouterr().err


def test_one_and_several_labels_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path)
    (tmp_path / "other").mkdir()
    write_multilabel(tmp_path / "other")
    assert main(arguments(tmp_path / "train.npz", tmp_path / "other" / "test.npz", tmp_path / "o.json")) == 2
    assert "training labels have shape (60,) and test labels (30, 3)" in capsys.readouterr().err


def test_skipped_images_are_noted(tmp_path: Path) -> None:
    assert main([*write_pair(tmp_path, skipped=["ant/broken.png"]), "--quiet"]) == 0
    notes = json.loads((tmp_path / "knn.json").read_text())["notes"]
    assert "1 of 30 test images skipped as unreadable: ant/broken.png" in notes


@pytest.mark.parametrize(
    ("changes", "extra", "message"),
    [
        ({}, ["--headline-k", "61"], "headline's k = 61 is larger than the training set of 60"),
        ({"fingerprint": "other"}, [], "different runs"),
        ({"checkpoint": CheckpointIdentity(path="d.pth", sha256="00", key="teacher")}, [], "different checkpoints"),
        ({}, ["--temperature", "0"], "temperature"),
        ({}, ["--device", "tpu9"], "--device tpu9"),
        ({}, ["--checkpoint", "random"], "leave out --train-features"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], extra: list[str], message: str
) -> None:
    assert main([*write_pair(tmp_path, **changes), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.npz", "train.npz"]


def test_widths_that_differ_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path)
    (tmp_path / "other").mkdir()
    write_pair(tmp_path / "other", width=6)
    assert main(arguments(tmp_path / "train.npz", tmp_path / "other" / "test.npz", tmp_path / "o.json")) == 2
    assert "8 dimensions and test features 6" in capsys.readouterr().err


def test_class_without_training_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path)
    few = meta("train", 20)
    write_features(tmp_path / "t.npz", features=np.ones((20, 8)), labels=np.arange(20) % 2, paths=["x"] * 20, meta=few)
    assert main(arguments(tmp_path / "t.npz", tmp_path / "test.npz", tmp_path / "o.json")) == 2
    assert "1 classes of the test features have no training image (the first: 'cat')" in capsys.readouterr().err


def test_neither_files_nor_checkpoint_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn", "--output", "o.json"]) == 2
    assert "give --checkpoint and --data, or" in capsys.readouterr().err
    assert main(["knn", "--checkpoint", "random", "--output", "o.json"]) == 2
    assert "needs --data" in capsys.readouterr().err


def test_two_feature_files_import_no_vision_packages(tmp_path: Path) -> None:
    command = write_pair(tmp_path)
    code = (
        "import sys, dino.cli\n"
        f"assert dino.cli.main({command!r}) == 0\n"
        "heavy = {'timm', 'torchvision', 'cv2', 'PIL', 'pandas', 'sklearn', 'scipy', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
