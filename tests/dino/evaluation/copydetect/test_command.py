from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dino.cli import main
from dino.metrics import MetricsFile, read_metrics
from tests.dino.evaluation.copydetect.copies import write_copies

NETWORK = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8", "--device", "cpu", "--workers", "0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_copies(tmp_path / "copies")


def copydetect(data: Path, *extra: str) -> list[str]:
    return ["copydetect", *NETWORK, "--data", str(data), "--output", str(data.parent / "o.json"), *extra]


def written(data: Path) -> MetricsFile:
    return read_metrics(data.parent / "o.json")


def test_copies_are_searched_among_originals_and_distractors(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(copydetect(data, "--image-size", "32")) == 0
    document = written(data)
    assert set(document.metrics) == {"map", "map_raw", "dim", "resolution"}
    assert (document.metrics["dim"].value, document.metrics["resolution"].value) == (128, 32)
    assert document.metrics["map"].n == 12
    assert document.chance is not None
    assert document.metrics["map_raw"].value > 3 * document.chance  # random weights see colours
    assert document.metrics["map"].value != document.metrics["map_raw"].value
    assert (document.protocol, document.data.train, document.data.test) == ("copydetect", 14, 12)
    assert document.settings["whitening"] is True
    (note,) = document.notes
    assert note == "the whitening, learnt from 12 images, has 116 of 128 eigenvalues at its floor"
    table = capsys.readouterr().out
    assert "12 copies, 14 images in the database, 32 px, 128 dimensions" in table
    assert "without whitening" in table


def test_without_other_images_the_notes_say_so(data: Path) -> None:
    assert main(copydetect(data, "--image-size", "32", "--quiet")) == 0
    raw = written(data).metrics["map_raw"]
    shutil.rmtree(data / "whitening")
    assert main(copydetect(data, "--image-size", "32", "--quiet")) == 0
    assert written(data).metrics["map"] == raw
    shutil.rmtree(data / "distractors")
    assert main(copydetect(data, "--image-size", "32", "--quiet")) == 0
    document = written(data)
    assert set(document.metrics) == {"map", "dim", "resolution"}
    assert [note.split(":")[0] for note in document.notes] == ["no whitening images", "no distractors"]
    assert document.settings["whitening"] is False
    assert document.data.train == 6


@pytest.mark.parametrize(("patch_size", "side"), [("8", 320), ("16", 224)])
def test_the_published_size_goes_with_the_patch(data: Path, patch_size: str, side: int) -> None:
    for part in ("distractors", "whitening"):
        shutil.rmtree(data / part)
    assert main([*copydetect(data, "--quiet"), "--patch-size", patch_size]) == 0
    assert written(data).metrics["resolution"].value == side


def test_unreadable_images_are_left_out_and_counted(data: Path) -> None:
    for name in ("original/200100.jpg", "strong/200502.jpg", "distractors/0/0.jpg", "whitening/3.png"):
        (data / name).write_bytes(b"no image")
    assert main(copydetect(data, "--image-size", "32", "--quiet")) == 0
    document = written(data)
    assert document.metrics["map"].n == 12 - 2 - 1
    assert [note.split(":")[0] for note in document.notes if "skipped" in note] == [
        "1 of 12 images of the strong copies skipped",
        "1 of 6 images of the originals skipped",
        "1 of 8 images of the distractors skipped",
        "1 of 12 images of the whitening images skipped",
    ]
    assert "2 copies left out: their originals cannot be read" in document.notes


def test_features_are_kept_and_used_again(data: Path, tmp_path: Path) -> None:
    command = copydetect(data, "--image-size", "32", "--quiet", "--features-dir", str(tmp_path / "kept"))
    assert main(command) == 0
    first = written(data).metrics
    files = sorted((tmp_path / "kept").iterdir())
    names = ["distractors", "originals", "strong-copies", "whitening-images"]
    assert [file.name for file in files] == [f"features-copies-{name}.npz" for name in names]
    times = [file.stat().st_mtime_ns for file in files]
    assert main(command) == 0
    assert written(data).metrics == first
    assert [file.stat().st_mtime_ns for file in files] == times
    files[0].write_bytes(b"damaged")
    assert main(command) == 0
    assert written(data).metrics == first
    assert [file.stat().st_mtime_ns == time for file, time in zip(files, times, strict=True)] == [False, *[True] * 3]


def test_a_resnet_has_a_descriptor_too(data: Path) -> None:
    command = [*copydetect(data, "--image-size", "32", "--quiet"), "--arch", "resnet_nano"]
    command[command.index("--patch-size") : command.index("--patch-size") + 2] = []
    assert main(command) == 0
    assert written(data).metrics["dim"].value == 256


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--image-size", "7"], "--image-size 7 is smaller than a patch of 8 pixels"),
        (["--whitening", "absent"], "--whitening absent: no such folder"),
        (["--data", "absent"], "neither a registered data set"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    data: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(copydetect(data, "--quiet", *extra)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (data.parent / "o.json").exists()
