from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dino.data
from dino.cli import main
from dino.commands import pretrain
from dino.config import load_config, run_id
from dino.metrics import read_metrics
from dino.running import locks, process
from dino.running.journal import read
from tests.dino.running.processes import can_fork, exit_status, fork

SETTINGS = {
    "arch": "vit_nano",
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "epochs": 2,
    "warmup_epochs": 0.5,
    "num_local_crops": 1,
    "out_dim": 32,
    "batch_size": 8,
    "global_crop_size": 8,
    "local_crop_size": 4,
    "head_hidden_dim": 16,
    "head_bottleneck_dim": 8,
    "warmup_teacher_temp_epochs": 1,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of 24 noise images."""
    folder = tmp_path_factory.mktemp("data") / "noise"
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "train" / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / name / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def leave_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator and the floating-point mode of the test process stay as they are."""
    monkeypatch.setattr(process, "configure_process", lambda device: None)


def arguments(images: Path, run_dir: Path, *more: str, **changes: object) -> list[str]:
    values = {**SETTINGS, **changes}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return [
        *("pretrain", "--recipe", "vits16_100ep", *sets, "--data", str(images), "--run-dir", str(run_dir)),
        *("--device", "cpu", "--quiet", *more),
    ]


def test_a_recipe_is_trained_to_the_end_and_a_second_call_does_nothing(images: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert main(arguments(images, run_dir, "--log-every", "2")) == 0
    assert [record.step for record in read(run_dir)] == [2, 4, 6]
    assert json.loads((run_dir / "status.json").read_text())["status"] == "finished"
    config = load_config(run_dir / "config.yaml")
    assert (config.dataset, config.out_dim, config.warmup_epochs) == ("noise", 32, 0.5)
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    assert main(["pretrain", str(run_dir / "config.yaml"), "--run-dir", str(run_dir), "--data", str(images)]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()} == before


def test_a_finished_run_writes_what_tables_show_of_it(images: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert main(arguments(images, run_dir, "--log-every", "2")) == 0
    report = run_dir / "metrics" / "pretrain.json"
    document = read_metrics(report)
    last = read(run_dir)[-1].metrics
    assert (document.protocol, document.run_id) == ("pretrain", run_id(load_config(run_dir / "config.yaml")))
    for name in ("loss", "teacher_entropy", "kl"):
        assert document.metrics[name].value == pytest.approx(last[name])
    status = json.loads((run_dir / "status.json").read_text())
    assert document.metrics["hours"].value == pytest.approx(status["seconds"] / 3600)
    assert 0.01 < document.metrics["peak_memory"].value < 64
    assert document.metrics["im_per_s"].value > 0
    assert document.data.digest

    report.unlink()  # made again, whether or not the checkpoint was lost with it
    assert main(arguments(images, run_dir)) == 0
    assert report.is_file()
    report.unlink()
    (run_dir / "checkpoint.pth").unlink()
    assert main(arguments(images, run_dir)) == 0
    again = read_metrics(report)
    assert again.metrics["loss"].value == document.metrics["loss"].value


def test_random_weights_have_a_report_without_a_journal(images: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert main(arguments(images, run_dir, epochs=0)) == 0
    document = read_metrics(run_dir / "metrics" / "pretrain.json")
    assert document.metrics.keys() == {"hours"}


def test_the_place_of_the_data_is_no_part_of_a_runs_identity(images: Path, tmp_path: Path) -> None:
    assert main(arguments(images, tmp_path / "first", epochs=1)) == 0
    config = tmp_path / "first" / "config.yaml"
    moved = images.parent / "elsewhere"
    if not moved.exists():
        moved.symlink_to(images)
    assert main(["pretrain", str(config), "--data", str(moved), "--run-dir", str(tmp_path / "second"), "--quiet"]) == 0
    assert (tmp_path / "second" / "config.yaml").read_bytes() == config.read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: [*a, "--set", "epoch=3"], ["epoch", "did you mean 'epochs'"]),
        (lambda a: [*a, "--set", "epochs"], ["KEY=VALUE"]),
        (lambda a: [*a, "--data", "cifar11"], ["cifar11", "cifar10"]),
        (lambda a: [*a, "--log-every", "0"], ["--log-every", "at least 1"]),
        (lambda a: [*a, "--checkpoint-minutes", "-1"], ["--checkpoint-minutes"]),
        (lambda a: ["pretrain", "nowhere.yaml", *a[3:]], ["nowhere.yaml"]),
        (lambda a: [*a, "--recipe", "vits16"], ["vits16", "vits16_100ep"]),
        (lambda a: [*a, "--set", "batch_size=64"], ["24 images", "64"]),
        (lambda a: [*a, "--set", "accumulate_steps=3"], ["batch_size 8", "3"]),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing_behind(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[str]], list[str]],
    words: list[str],
) -> None:
    assert main(change(arguments(images, tmp_path / "run"))) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("dino pretrain: ")
    assert len(error.splitlines()) == 1
    assert all(word in error for word in words)
    assert not (tmp_path / "run").exists()


def test_another_configuration_in_the_run_directory_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(images, tmp_path, epochs=0, warmup_epochs=0)) == 0
    assert main(arguments(images, tmp_path, epochs=0, warmup_epochs=0, seed=1)) == 2
    assert "belongs to the configuration" in capsys.readouterr().err


def test_what_had_the_directory_before_is_looked_at_again_once_it_is_free(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"

    @contextlib.contextmanager
    def wait_for_another(folder: Path, *, stop: object) -> Iterator[None]:
        """As if another configuration had held the lock, and been killed before its first checkpoint."""
        monkeypatch.undo()
        assert main(arguments(images, run_dir, epochs=0, warmup_epochs=0)) == 0
        (run_dir / "checkpoint.pth").unlink()
        shutil.rmtree(run_dir / "checkpoints")
        with locks.sole_owner(folder, stop=stop):
            yield

    monkeypatch.setattr(locks, "sole_owner", wait_for_another)
    assert main(arguments(images, run_dir, epochs=0, warmup_epochs=0, seed=1)) == 2
    assert "belongs to the configuration" in capsys.readouterr().err
    assert load_config(run_dir / "config.yaml").seed == 0
    assert not (run_dir / "checkpoint.pth").exists()


@can_fork
def test_a_signal_while_data_load_ends_it_at_once_and_leaves_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **options: object) -> None:
        (tmp_path / "loading").touch()
        time.sleep(60)

    monkeypatch.setattr(dino.data, "build_pretrain_loader", load)
    pid = fork(lambda: main(arguments(images, tmp_path / "run")), tmp_path / "error.txt")
    while not (tmp_path / "loading").exists():
        assert not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        time.sleep(0.005)
    os.kill(pid, signal.SIGTERM)
    assert exit_status(pid, seconds=30) == 75
    assert not (tmp_path / "run").exists()


def test_divergence_is_one_message_and_status_one(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Weights beyond float32's range after one step.
    status = main(arguments(images, tmp_path, base_lr=1e38, warmup_epochs=0, weight_decay=0.9, weight_decay_end=0.9))
    error = capsys.readouterr().err
    assert status == 1
    assert "dino pretrain: step " in error
    assert "learning rate" in error
    assert "Traceback" not in error
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 0.001), ("0.5", 0.5), ("true", True), ("null", None), ("[0.1, 1]", [0.1, 1]), ("relu", "relu")],
)
def test_values_on_the_command_line_have_their_types(text: str, value: object) -> None:
    parsed = pretrain.parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.slow
def test_it_runs_under_torchrun(images: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dino"]
    result = subprocess.run(
        [*command, *arguments(images, tmp_path / "run", "--threads", "1")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
    assert [record.step for record in read(tmp_path / "run")] == list(range(1, 7))
