from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino.cli import main
from dino.evaluation.features.files import read_features
from dino.metrics import MetricsFile, read_metrics
from tests.dino.evaluation.retrieval.landmarks import rewrite_truth, write_landmarks

NETWORK = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8", "--device", "cpu", "--workers", "0"]
SCORES = [f"{kind}_{level}" for kind in ("map", "mp1", "mp5", "mp10") for level in ("easy", "medium", "hard")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_landmarks(tmp_path / "landmarks")


def retrieval(data: Path, *extra: str) -> list[str]:
    return ["retrieval", *NETWORK, "--data", str(data), "--output", str(data.parent / "o.json"), *extra]


def written(data: Path) -> MetricsFile:
    return read_metrics(data.parent / "o.json")


def values(document: MetricsFile) -> dict[str, float]:
    return {name: measure.value for name, measure in document.metrics.items()}


def test_all_setups_for_whole_and_cropped_queries(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(retrieval(data, "--image-size", "32")) == 0
    document = written(data)
    assert {name for name in document.metrics if not name.startswith("chance")} == {
        *SCORES,
        *(f"{name}_cropped" for name in SCORES),
    }
    # Even random weights tell three colours apart.
    assert document.metrics["map_medium"].value > 3 * document.metrics["chance_medium"].value
    assert document.metrics["map_medium"].n == 6
    assert document.metrics["map_easy"].n == 5
    assert "easy: 1 of 6 queries have no positive and are left out" in document.notes
    assert (document.protocol, document.chance, document.settings["scales"]) == ("retrieval", None, [1.0])
    assert (document.data.train, document.data.test, document.data.name) == (22, 6, "landmarks")
    table = capsys.readouterr().out
    assert "6 queries, 22 images, longest side 32 px, 1 scale(s)" in table
    assert table.count("cropped") == 3


def test_batches_of_one_give_the_same_features(data: Path, tmp_path: Path) -> None:
    made = []
    for size in ("1", "32"):
        folder = tmp_path / size
        extra = ["--image-size", "32", "--multiscale", "--batch-size", size, "--features-dir", str(folder), "--quiet"]
        assert main(retrieval(data, *extra)) == 0
        made.append(read_features(folder / "features-landmarks-database.npz").features)
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)
    assert written(data).settings["scales"] == [1.0, 0.7071, 0.5]


@pytest.mark.parametrize(("name", "size", "scales"), [("roxford5k", 224, 1), ("rparis6k", 512, 3), ("mine", 224, 1)])
def test_the_published_settings_are_the_default(tmp_path: Path, name: str, size: int, scales: int) -> None:
    data = write_landmarks(tmp_path / "x", name=name)
    assert main(retrieval(data, "--quiet")) == 0
    settings = written(data).settings
    assert (settings["benchmark"], settings["image_size"], len(settings["scales"])) == (name, size, scales)


def test_features_are_kept_and_used_again(data: Path, tmp_path: Path) -> None:
    command = retrieval(data, "--image-size", "32", "--quiet", "--features-dir", str(tmp_path / "kept"))
    assert main(command) == 0
    first = values(written(data))
    names = ["cropped-queries", "database", "queries"]
    files = sorted((tmp_path / "kept").iterdir())
    assert [file.name for file in files] == [f"features-landmarks-{name}.npz" for name in names]
    assert read_features(files[1]).features.shape == (22, 64)
    times = [file.stat().st_mtime_ns for file in files]
    assert main(command) == 0
    assert values(written(data)) == first
    assert [file.stat().st_mtime_ns for file in files] == times
    # Other boxes: only the cropped queries are made again.
    rewrite_truth(data, lambda truth: truth["gnd"][0].update(bbx=[0, 0, 30, 30]))
    assert main(command) == 0
    assert [file.stat().st_mtime_ns == time for file, time in zip(files, times, strict=True)] == [False, True, True]
    # Another size: all of them.
    assert main([*command, "--image-size", "40"]) == 0
    assert all(file.stat().st_mtime_ns != time for file, time in zip(files, times, strict=True))


def test_unreadable_images_are_left_out_and_counted(data: Path) -> None:
    (data / "jpg" / "landmark1_0.jpg").write_bytes(b"no image")
    (data / "jpg" / "query2_1.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((30, 4, 3), dtype=np.uint8)).save(data / "jpg" / "nothing_1.jpg")
    assert main(retrieval(data, "--image-size", "32", "--quiet")) == 0
    document = written(data)
    assert document.metrics["map_medium"].n == 5
    assert [note.split(":")[0] for note in document.notes if "skipped" in note] == [
        "2 of 22 images of the database skipped",
        "1 of 6 images of the queries skipped",
        "1 of 6 images of the cropped queries skipped",
    ]
    assert any("nothing_1.jpg: 4x30 pixels are too few" in note for note in document.notes)


def test_resnets_are_searched_by_their_pool(data: Path) -> None:
    network = ["--checkpoint", "random", "--arch", "resnet_nano", "--device", "cpu", "--workers", "0"]
    command = ["retrieval", *network, "--data", str(data), "--output", str(data.parent / "o.json"), "--quiet"]
    assert main([*command, "--image-size", "32", "--multiscale"]) == 0
    assert written(data).settings["model"]["embed_dim"] == 128


def test_a_truth_without_boxes_or_easy_images_is_scored_as_far_as_it_goes(data: Path) -> None:
    def change(truth: dict[str, Any]) -> None:
        for entry in truth["gnd"]:
            del entry["bbx"]
            entry["easy"] = []

    rewrite_truth(data, change)
    assert main(retrieval(data, "--image-size", "32", "--quiet")) == 0
    document = written(data)
    assert "map_easy" not in document.metrics
    assert "map_medium_cropped" not in document.metrics
    assert values(document)["map_medium"] == values(document)["map_hard"]
    assert any("no boxes" in note for note in document.notes)


def no_positives(truth: dict[str, Any]) -> None:
    for entry in truth["gnd"]:
        entry.update(easy=[], hard=[])


@pytest.mark.parametrize(
    ("change", "extra", "message"),
    [
        (no_positives, [], "no query has a positive"),
        (lambda truth: truth["gnd"][3].update(bbx=[70, 0, 90, 20]), [], "query1_1.jpg: the box"),
        (lambda truth: truth["imlist"].append("absent"), [], "1 of the 29 images"),
        (None, ["--image-size", "15", "--multiscale"], "--image-size 15 leaves less than a patch"),
        (None, ["--dataset-name", "rparis6k"], "neither gnd_rparis6k.pkl"),
        (None, ["--device", "tpu9"], "--device tpu9"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    data: Path, capsys: pytest.CaptureFixture[str], change: Any, extra: list[str], message: str
) -> None:
    if change is not None:
        rewrite_truth(data, change)
    assert main(retrieval(data, "--quiet", *extra)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (data.parent / "o.json").exists()
