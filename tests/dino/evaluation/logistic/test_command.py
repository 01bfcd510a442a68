from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dino.cli import main
from dino.metrics import MetricsFile, read_metrics
from tests.dino.evaluation.knn.test_command import write_multilabel, write_pair


def logistic(folder: Path, command: list[str], *extra: str) -> MetricsFile:
    """Run ``dino logistic`` with the arguments of a ``dino knn`` command; returns its metrics file."""
    assert main(["logistic", *command[1:], *extra]) == 0
    return read_metrics(folder / "knn.json")


def test_metrics_file_from_two_feature_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = logistic(tmp_path, write_pair(tmp_path))
    assert document.protocol == "logistic"
    assert set(document.metrics) == {"top1", "top5", "top1_best"}
    assert document.metrics["top1"].value > 90
    assert document.metrics["top5"].value == 100
    assert document.metrics["top1_best"].value == max(row["top1"] for row in document.settings["lambdas"])
    assert [row["lambda"] for row in document.settings["lambdas"]] == [0.01, 0.1, 1.0]
    assert all(row["gap"] <= 1e-4 for row in document.settings["lambdas"])
    assert (document.settings["headline_lambda"], document.settings["subset"]) == (0.1, None)
    assert document.run_id is not None
    assert any("top1_best is the best lambda on the test set itself" in note for note in document.notes)
    assert "headline" in capsys.readouterr().out


def test_few_labels_are_recorded(tmp_path: Path) -> None:
    document = logistic(tmp_path, write_pair(tmp_path), "--subset", "0.1", "--quiet")
    assert document.data.train == document.settings["subset"]["images"] == 6
    assert document.settings["subset"]["fraction"] == 0.1


def test_several_labels_an_image_give_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = logistic(tmp_path, write_multilabel(tmp_path))
    assert set(document.metrics) == {"map", "map_11point", "map_best"}
    assert document.metrics["map"].value > 90
    assert document.metrics["map"].n is None  # no proportion: it has no binomial error
    assert "mAP %" in capsys.readouterr().out


def test_labels_of_foreign_files_may_leave_numbers_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        labels = rng.permutation(np.repeat([3, 7, 900], 20))
        np.savez(tmp_path / f"{name}.npz", features=np.eye(901)[labels][:, [3, 7, 900]] + 0.01, labels=labels)
    files = ["--train-features", str(tmp_path / "a.npz"), "--test-features", str(tmp_path / "b.npz")]
    document = logistic(tmp_path, ["knn", *files, "--output", str(tmp_path / "knn.json"), "--quiet"])
    assert document.metrics["top1"].value == 100
    assert document.chance == pytest.approx(100 / 3)


def test_unfinished_solution_is_noted(tmp_path: Path) -> None:
    document = logistic(tmp_path, write_pair(tmp_path), "--max-passes", "2", "--quiet")
    assert sum("after 2 passes" in note for note in document.notes) == 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--lambdas", "0"], "lambda and tolerance must be positive"),
        (["--subset", "2"], "--subset must be a share"),
        (["--checkpoint", "random"], "leave out --train-features"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(["logistic", *write_pair(tmp_path)[1:], *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "knn.json").exists()
