from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.cli import main
from dino.metrics import read_metrics
from dino.running.checkpoint import CheckpointFolder
from dino.running.journal import read
from tests.dino.training.supervised.labelled import write_images

SHAPE = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "4", "--device", "cpu", "--quiet"]
RECIPE = [
    *("--epochs", "4", "--batch-size", "8", "--lr", "0.2", "--warmup-epochs", "1", "--image-size", "16"),
    *("--resize", "16", "--rand-augment=", "--color-jitter", "0", "--random-erasing", "0", "--mixup", "0"),
    *("--cutmix", "0", "--head-init-scale", "1"),
]


def finetune(data: Path, output: Path, *more: str) -> int:
    return main(["finetune", *SHAPE, "--data", str(data), "--output", str(output), *RECIPE, *more])


def test_colours_are_told_apart_and_the_file_is_whole(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    assert finetune(data, tmp_path / "o.json") == 0
    document = read_metrics(tmp_path / "o.json")
    assert document.protocol == "finetune"
    assert document.metrics["top1"].value > 60.0
    assert document.metrics["top5"].value == 100.0
    assert (document.metrics["resolution"].value, document.metrics["resolution"].unit) == (16, "px")
    assert (document.data.train, document.data.test, document.data.classes) == (24, 9, 3)
    assert document.settings["peak_lr"] == pytest.approx(0.2 * 8 / 512)


def test_run_again_it_only_measures_again(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    assert finetune(data, tmp_path / "o.json") == 0
    checkpoint = tmp_path / "o-run" / "checkpoint.pth"
    before = torch.load(checkpoint, weights_only=True)["student"]
    first = json.loads((tmp_path / "o.json").read_text())["metrics"]
    assert finetune(data, tmp_path / "o.json") == 0
    after = torch.load(checkpoint, weights_only=True)["student"]
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert json.loads((tmp_path / "o.json").read_text())["metrics"] == first


def test_another_recipe_does_not_go_on_in_the_same_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data")
    assert finetune(data, tmp_path / "o.json") == 0
    assert finetune(data, tmp_path / "o.json", "--weight-decay", "0.1") == 2
    assert "belongs to the configuration" in capsys.readouterr().err


def test_splits_of_different_classes_and_wrong_values_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data")
    assert finetune(data, tmp_path / "o.json", "--optimizer", "adam") == 2
    assert "'optimizer'" in capsys.readouterr().err
    shutil.rmtree(data / "test" / "red")
    assert finetune(data, tmp_path / "o.json") == 2
    assert "different classes" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()


def test_a_supervised_run_is_a_pretraining_like_any_other(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    settings = (
        "objective=supervised arch=vit_nano patch_size=4 embed_dim=16 depth=2 num_heads=2 epochs=2 batch_size=8 "
        "warmup_epochs=1 global_crop_size=16 local_crop_size=8"
    )
    chosen = [word for setting in settings.split() for word in ("--set", setting)]
    command = ["pretrain", "--recipe", "supervised_vits16", *chosen, "--data", str(data), "--run-dir"]
    assert main([*command, str(tmp_path / "run"), "--device", "cpu", "--quiet", "--tracking", "off"]) == 0
    report = json.loads((tmp_path / "run" / "metrics" / "pretrain.json").read_text())
    assert report["metrics"]["loss"]["value"] > 0
    knn = ["knn", "--checkpoint", str(tmp_path / "run" / "checkpoint.pth"), "--data", str(data), "--quiet"]
    assert main([*knn, "--output", str(tmp_path / "knn.json"), "--k", "3", "--headline-k", "3"]) == 0
    assert json.loads((tmp_path / "knn.json").read_text())["run_id"].startswith("supervised-vitn4-2ep")


def test_it_logs_and_saves_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = CheckpointFolder.save

    def note(folder: CheckpointFolder, state: dict[str, Any]) -> Path:
        saved.append(state["step"])
        return save(folder, state)

    monkeypatch.setattr(CheckpointFolder, "save", note)
    data = write_images(tmp_path / "data")
    assert finetune(data, tmp_path / "a.json", "--log-every", "5", "--checkpoint-every-epochs", "3") == 0
    assert saved == [9, 12]
    assert [record.step for record in read(tmp_path / "a-run")] == [5, 10, 12]
    saved.clear()
    assert finetune(data, tmp_path / "b.json", "--checkpoint-minutes", "0") == 0
    assert saved == list(range(1, 13))
    assert finetune(data, tmp_path / "c.json", "--log-every", "0") == 2


def test_a_supervised_pretraining_logs_and_saves_when_it_is_told_to(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    settings = (
        "objective=supervised arch=vit_nano patch_size=4 embed_dim=16 depth=2 num_heads=2 epochs=2 batch_size=8 "
        "warmup_epochs=1 global_crop_size=16 local_crop_size=8"
    )
    chosen = [word for setting in settings.split() for word in ("--set", setting)]
    command = ["pretrain", "--recipe", "supervised_vits16", *chosen, "--data", str(data), "--run-dir"]
    more = ["--device", "cpu", "--quiet", "--tracking", "off", "--log-every", "4", "--checkpoint-minutes", "0"]
    assert main([*command, str(tmp_path / "run"), *more]) == 0
    assert [record.step for record in read(tmp_path / "run")] == [4, 6]
