from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino.cli import main
from dino.evaluation.davis.dataset import find_videos
from dino.evaluation.davis.masks import PALETTE, write_mask
from dino.metrics import read_metrics

SIZE = (32, 48)
RANDOM = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "4", "--image-size", "32"]
MEASURES = {"jf_mean", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay"}


def draw(frame: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Coloured squares that move right by two pixels a frame."""
    mask = np.zeros(SIZE, np.uint8)
    for number in range(1, objects + 1):
        mask[4 + 12 * (number - 1) : 14 + 12 * (number - 1), 4 + 2 * frame : 16 + 2 * frame] = number
    shade = np.random.default_rng(0).integers(0, 60, (*SIZE, 3)).astype(np.uint8)
    return np.where(mask[..., None] > 0, PALETTE[mask] + 60, shade).astype(np.uint8), mask


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of six frames: ``one`` and ``two``, of as many objects."""
    for name, objects in (("one", 1), ("two", 2)):
        frames = tmp_path / "data" / "JPEGImages" / "480p" / name
        frames.mkdir(parents=True)
        for index in range(6):
            image, mask = draw(index, objects)
            Image.fromarray(image).save(frames / f"{index:05d}.jpg", quality=95)
            write_mask(tmp_path / "data" / "Annotations" / "480p" / name / f"{index:05d}.png", mask)
    return tmp_path / "data"


def read(path: Path) -> Any:
    return read_metrics(path)


def test_checkpoint_to_masks_metrics_and_rows(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, masks, rows = tmp_path / "m.json", tmp_path / "masks", tmp_path / "rows.csv"
    command = ["davis", *RANDOM, "--data", str(davis), "--output", str(output), "--device", "cpu", "--seed", "3"]
    assert main([*command, "--results-dir", str(masks), "--per-sequence", str(rows), "--radius", "3"]) == 0
    document = read(output)
    assert document.protocol == "davis"
    assert set(document.metrics) == MEASURES
    values = {name: measure.value for name, measure in document.metrics.items()}
    assert values["jf_mean"] == pytest.approx((values["j_mean"] + values["f_mean"]) / 2)
    # Colours alone tell the squares from the background: even random weights follow them.
    assert values["j_mean"] > 50
    assert (document.metrics["jf_mean"].n, document.metrics["j_decay"].n) == (3, None)
    assert document.settings["radius"] == 3
    assert {"image_size": 32, "multiple": 4, "context": 7, "topk": 5, "temperature": 0.1}.items() <= (
        document.settings.items()
    )
    assert (document.chance, document.seed, document.checkpoint.path) == (None, 3, "random")
    data = document.data.model_dump()
    assert (data["test"], data["objects"], data["frames"]) == (2, 3, 8)
    assert data["test_digest"]
    with open(rows, newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [(row["sequence"], row["object"], row["frames"]) for row in table] == [
        ("one", "1", "4"),
        ("two", "1", "4"),
        ("two", "2", "4"),
    ]
    column = [float(row["f_mean"]) for row in table]
    assert np.mean(column) == pytest.approx(values["f_mean"], abs=1e-3)
    assert document.metrics["f_mean"].error == pytest.approx(np.std(column, ddof=1) / 3**0.5, abs=1e-3)
    assert sorted(path.name for path in (masks / "two").iterdir()) == [f"{index:05d}.png" for index in range(6)]
    with Image.open(masks / "two" / "00000.png") as first:
        assert (first.mode, first.size) == ("P", SIZE[::-1])
        np.testing.assert_array_equal(np.asarray(first), draw(0, 2)[1])
    assert "all objects" in capsys.readouterr().out

    # The written masks, scored by themselves, give the same numbers.
    again = tmp_path / "again.json"
    assert main(["davis", "--results", str(masks), "--data", str(davis), "--output", str(again), "--quiet"]) == 0
    assert {name: measure.value for name, measure in read(again).metrics.items()} == pytest.approx(values)
    assert capsys.readouterr().out == ""


def test_true_masks_score_100_without_torch(davis: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.json"
    truth = davis / "Annotations" / "480p"
    command = ["davis", "--results", str(truth), "--data", str(davis), "--output", str(output)]
    code = (
        "import sys, dino.cli\n"
        f"assert dino.cli.main({command!r}) == 0\n"
        "heavy = {'torch', 'torchvision', 'timm', 'pandas', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    document = read(output)
    assert {name: measure.value for name, measure in document.metrics.items()} == {
        name: 0.0 if name.endswith("decay") else 100.0 for name in MEASURES
    }
    assert (document.run_id, document.seed, document.checkpoint.sha256) == (None, None, None)
    assert any("identity is unknown" in note for note in document.notes)


def test_unusable_sequences_are_counted_and_the_others_scored(davis: Path, tmp_path: Path) -> None:
    (davis / "JPEGImages" / "480p" / "one" / "00002.jpg").write_bytes(b"\xff\xd8\xff broken")
    output, masks = tmp_path / "m.json", tmp_path / "masks"
    command = ["davis", *RANDOM, "--data", str(davis), "--output", str(output), "--results-dir", str(masks)]
    assert main([*command, "--device", "cpu", "--quiet"]) == 0
    document = read(output)
    assert (document.data.test, document.metrics["j_mean"].n) == (1, 2)
    (note,) = [note for note in document.notes if "skipped" in note]
    assert note.startswith("1 of 2 sequences skipped: one: ")
    assert "00002.jpg" in note
    assert not (masks / "one").exists()  # nothing half done


def broken_results(davis: Path, folder: Path) -> None:
    """Masks of ``two`` of which the last scored one is missing, and of ``one`` in another size."""
    for index in range(4):
        write_mask(folder / "two" / f"{index:05d}.png", draw(index, 2)[1])
        write_mask(folder / "one" / f"{index:05d}.png", np.zeros((8, 8), np.uint8))


def test_incomplete_results_are_no_score(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_results(davis, tmp_path / "r")
    command = ["davis", "--results", str(tmp_path / "r"), "--data", str(davis), "--output", str(tmp_path / "m.json")]
    assert main([*command, "--sequences", "two", "--quiet"]) == 2
    assert "00004.png: no such mask" in capsys.readouterr().err
    assert main([*command, "--sequences", "one", "--quiet"]) == 2
    assert "the result has 8x8 pixels, the annotation 48x32" in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


def test_frames_without_annotation_and_lost_objects_are_noted(davis: Path, tmp_path: Path) -> None:
    annotations = davis / "Annotations" / "480p" / "two"
    (annotations / "00005.png").unlink()
    first = draw(0, 2)[1]
    first[first == 2] = 0
    first[31, 47] = 2
    write_mask(annotations / "00000.png", first)
    command = ["davis", *RANDOM, "--data", str(davis), "--output", str(tmp_path / "m.json"), "--sequences", "two"]
    assert main([*command, "--device", "cpu", "--quiet"]) == 0
    document = read(tmp_path / "m.json")
    assert "two: 1 frames without an annotation are not scored" in document.notes
    assert "two: object 2 is too small for the grid of patches, and lost" in document.notes
    assert document.data.model_dump()["frames"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --checkpoint"),
        (["--checkpoint", "random", "--results", "r"], "give either --checkpoint"),
        (["--results", "r", "--results-dir", "s"], "leave it out beside --results"),
        ([*RANDOM, "--results-dir", "{data}/Annotations/480p"], "holds the true masks: choose another folder"),
        (["--results", "nowhere"], "--results nowhere: no such folder"),
        (["--checkpoint", "random", "--arch", "resnet50"], "has no patches: give a checkpoint of a ViT"),
        ([*RANDOM, "--sequences", "tow"], "no sequence 'tow'"),
        ([*RANDOM, "--sequences", ""], "--sequences names none"),
        ([*RANDOM[:-1], "2"], "leave no patch of 4 pixels"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    output = tmp_path / "m.json"
    arguments = [argument.format(data=davis) for argument in arguments]
    assert main(["davis", *arguments, "--data", str(davis), "--output", str(output), "--quiet"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert not output.exists()


def test_no_object_in_any_first_frame_is_an_error(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_mask(davis / "Annotations" / "480p" / name / "00000.png", np.zeros(SIZE, np.uint8))
    command = ["davis", *RANDOM, "--data", str(davis), "--output", str(tmp_path / "m.json"), "--device", "cpu"]
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no sequence can be scored; the first problem: one: " in error
    assert "the first annotation shows no object" in error


@pytest.mark.parametrize("value", ["0", "-1", "inf"])
def test_temperature_must_be_positive(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["davis", *RANDOM, "--data", "d", "--output", "o", f"--temperature={value}"])
    assert stop.value.code == 2
    assert "must be above 0" in capsys.readouterr().err


@pytest.mark.reference
def test_real_sequences_without_lists(reference_data: Path, tmp_path: Path) -> None:
    """Black and white masks of DAVIS 2016: all sequences of the folder, and those that are named."""
    data, output = reference_data / "davis", tmp_path / "m.json"
    assert len(find_videos(str(data)).videos) == 4
    network = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8", "--image-size", "64"]
    chosen = ["--data", str(data), "--sequences", "car-shadow,drift-straight", "--output", str(output), "--quiet"]
    assert main(["davis", *network, *chosen, "--device", "cpu", "--results-dir", str(tmp_path / "masks")]) == 0
    made = read(output)
    assert (made.data.test, made.data.model_dump()["objects"], made.notes) == (2, 2, [])
    assert main(["davis", "--results", str(tmp_path / "masks"), *chosen]) == 0
    scored = read(output)
    for name, measure in made.metrics.items():
        assert scored.metrics[name].value == pytest.approx(measure.value), name


@pytest.mark.reference
def test_results_of_another_method_score_as_the_official_code_does(reference_data: Path, tmp_path: Path) -> None:
    expected = json.loads((reference_data / "davis-results" / "reference.json").read_text())["single"]
    output, rows = tmp_path / "m.json", tmp_path / "rows.csv"
    results = ["--results", str(reference_data / "davis-results" / "osvos"), "--data", str(reference_data / "davis")]
    assert main(["davis", *results, "--output", str(output), "--per-sequence", str(rows), "--quiet"]) == 0
    found = {row["sequence"]: row for row in csv.DictReader(rows.open(encoding="utf-8"))}
    assert found.keys() == expected.keys()
    for name, official in expected.items():
        for measure in ("J", "F"):
            values = [float(found[name][f"{measure.lower()}_{part}"]) for part in ("mean", "recall", "decay")]
            assert values == pytest.approx([100 * value for value in official[measure]], abs=1e-2), (name, measure)
    (note,) = (note for note in read(output).notes if "skipped" in note)
    assert note.startswith("2 of 4 sequences skipped: motocross-jump: no results in ")
