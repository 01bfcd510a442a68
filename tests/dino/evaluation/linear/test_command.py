from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from dino.cli import main
from dino.config import build_config
from dino.metrics import MetricsFile, read_metrics
from dino.models import build_backbone
from dino.protocols import PROTOCOLS
from tests.dino.training.supervised.labelled import write_images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", train=12, test=5)


def linear(data: Path, output: Path, *more: str, network: tuple[str, ...] = ("--arch", "vit_nano")) -> int:
    command = [
        *("linear", "--checkpoint", "random", *network, "--patch-size", "4", "--data", str(data)),
        *("--output", str(output), "--epochs", "4", "--batch-size", "8", "--image-size", "16", "--device", "cpu"),
    ]
    return main([*command, *more])


def read(path: Path) -> MetricsFile:
    return read_metrics(path)


def test_metrics_file_is_whole(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert linear(data, tmp_path / "o.json") == 0
    document = read(tmp_path / "o.json")
    assert document.protocol == "linear"
    names = ("l1", "l2", "l4", "l6", "pool")
    assert set(document.metrics) == {"top1", "top5", "top1_best_epoch"} | {
        f"{what}_{name}" for what in ("top1", "dim") for name in names
    }
    assert all(PROTOCOLS["linear"].knows(name) for name in document.metrics)
    assert [document.metrics[f"dim_{name}"].value for name in names] == [64, 128, 192, 192, 128]
    assert document.metrics["top1"] == document.metrics["top1_l4"]
    assert document.metrics["top1"].n == 15
    assert document.metrics["top1"].value > 80, "colours are told apart by any weights"
    assert document.metrics["top1_best_epoch"].value >= document.metrics["top1"].value
    assert document.chance == pytest.approx(100 / 3)
    assert (document.data.train, document.data.test, document.data.classes) == (36, 15, 3)
    assert document.settings["held_out_images"] == 3
    assert (document.settings["steps"], len(document.settings["top1_by_epoch"])) == (20, 4)
    assert document.settings["top1_by_epoch"][-1] == document.metrics["top1"].value
    row = document.settings["probes"]["l4"]
    assert row["top1_by_lr"][document.settings["lrs"].index(row["lr"])] == document.metrics["top1"].value
    by_lr = row["held_out_top1_by_lr"]
    assert by_lr[document.settings["lrs"].index(row["lr"])] == max(by_lr)
    assert any("l4 and l6 take all of them" in note for note in document.notes)
    assert any("best of all epochs and learning rates on the test set itself" in note for note in document.notes)
    assert "headline" in capsys.readouterr().out
    assert list(tmp_path.glob(".*")) == []


def test_the_same_command_gives_the_same_numbers(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert linear(data, tmp_path / f"{name}.json", "--quiet") == 0
    first, second = (read(tmp_path / f"{name}.json") for name in ("a", "b"))
    assert (first.metrics, first.settings) == (second.metrics, second.settings)


def test_one_learning_rate_is_not_chosen(data: Path, tmp_path: Path) -> None:
    assert linear(data, tmp_path / "o.json", "--lrs", "0.1", "--features", "l1", "--headline", "pool", "--quiet") == 0
    document = read(tmp_path / "o.json")
    assert set(document.metrics) == {
        *("top1", "top5", "top1_best_epoch", "top1_l1", "dim_l1", "top1_pool", "dim_pool"),
    }
    assert document.metrics["top1"] == document.metrics["top1_pool"]
    assert document.settings["held_out_images"] == 0
    assert not any("chosen among" in note for note in document.notes)


def test_a_resnet_is_probed_on_its_pooled_map(data: Path, tmp_path: Path) -> None:
    assert linear(data, tmp_path / "o.json", "--quiet", network=("--arch", "resnet_nano")) == 0
    document = read(tmp_path / "o.json")
    assert set(document.metrics) == {"top1", "top5", "top1_best_epoch"}
    assert document.settings["headline"] == "pooled"


@pytest.mark.parametrize("key", ["teacher", "student"])
def test_weights_in_the_authors_layout_are_probed_by_their_key(key: str, data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = {name: build_backbone(arch="vit_nano", patch_size=4, img_size=16) for name in ("teacher", "student")}
    state = {
        name: {f"module.backbone.{entry}": value for entry, value in network.state_dict().items()}
        for name, network in networks.items()
    }
    torch.save(state, tmp_path / "weights.pth")
    torch.save(networks[key].state_dict(), tmp_path / "bare.pth")
    shape = ["--arch", "vit_nano", "--patch-size", "4", "--image-size", "16", "--epochs", "2", "--quiet"]
    rest = ["--data", str(data), "--device", "cpu", *shape]
    for name, more in (("weights", ["--checkpoint-key", key]), ("bare", [])):
        output = tmp_path / f"{name}.json"
        assert (
            main(["linear", "--checkpoint", str(tmp_path / f"{name}.pth"), "--output", str(output), *rest, *more]) == 0
        )
    first, second = read(tmp_path / "weights.json"), read(tmp_path / "bare.json")
    assert first.metrics == second.metrics
    assert first.checkpoint.key == key


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--lrs", "0"], "'lrs"),
        (["--features", "cls"], "no feature 'cls'"),
        (["--features", "pooled"], "the feature of a ResNet"),
        (["--resize", "8"], "--resize 8 is smaller"),
        (["--image-size", "2"], "greater than or equal to 4"),
        (["--workers", "-1"], "--workers"),
        (["--data", "nowhere"], "neither a registered data set"),
        (["--test-split", "train"], "the same images"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert linear(data, tmp_path / "o.json", *extra) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_splits_of_different_classes_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "test" / "red")
    assert linear(data, tmp_path / "o.json") == 2
    assert "different classes" in capsys.readouterr().err


def test_one_image_a_class_leaves_none_to_choose_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(tmp_path / "data", train=1)
    assert linear(data, tmp_path / "o.json") == 2
    assert "give one with --lrs" in capsys.readouterr().err
    assert linear(data, tmp_path / "o.json", "--lrs", "0.1", "--quiet") == 0


def test_diverged_weights_are_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = build_config({"arch": "vit_nano", "patch_size": 4, "global_crop_size": 16})
    network = build_backbone(arch=config.arch, patch_size=4, img_size=16)
    with torch.no_grad():
        network.norm.bias.fill_(float("nan"))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    assert linear(data, tmp_path / "o.json", "--checkpoint", str(tmp_path / "weights.pth")) == 2
    assert "have diverged" in capsys.readouterr().err


@pytest.mark.reference
def test_random_weights_tell_real_images_better_than_chance(reference_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "few"
    for split, count in (("train", 30), ("test", 20)):
        for source in sorted((reference_data / "cifar10-small" / split).iterdir())[:3]:
            (data / split / source.name).mkdir(parents=True)
            for path in sorted(source.iterdir())[:count]:
                (data / split / source.name / path.name).symlink_to(path)
    assert linear(data, tmp_path / "o.json", "--epochs", "10", "--image-size", "32", "--quiet") == 0
    assert read(tmp_path / "o.json").metrics["top1"].value > 45
