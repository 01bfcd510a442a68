from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino.errors import UserError
from dino.evaluation.retrieval.dataset import read_ground_truth, read_revisited
from tests.dino.evaluation.retrieval.landmarks import rewrite_truth, write_landmarks


def test_a_folder_in_the_real_format(tmp_path: Path) -> None:
    dataset = read_revisited(write_landmarks(tmp_path / "mine"))
    assert (dataset.name, dataset.benchmark, dataset.root) == ("mine", "roxford5k", tmp_path / "mine" / "jpg")
    assert dataset.database_paths[:2] == ["landmark0_0.jpg", "landmark0_1.jpg"]
    assert len(dataset.query_paths) == 6
    assert dataset.truth.lists[1]["hard"].tolist() == [2, 3]
    assert dataset.truth.boxes is not None
    assert dataset.truth.boxes[0] == (10.5, 5.0, 50.0, 35.5)


def test_the_parent_of_both_benchmarks_needs_a_name(tmp_path: Path) -> None:
    for name in ("roxford5k", "rparis6k"):
        write_landmarks(tmp_path / name, name=name)
    dataset = read_revisited(tmp_path, benchmark="rparis6k")
    assert (dataset.name, dataset.root) == ("rparis6k", tmp_path / "rparis6k" / "jpg")
    with pytest.raises(UserError, match=r"several .* \(roxford5k, rparis6k\): choose one with --dataset-name"):
        read_revisited(tmp_path)
    with pytest.raises(UserError, match=r"neither gnd_oxbuild\.pkl nor oxbuild/gnd_oxbuild\.pkl; it has roxford5k"):
        read_revisited(tmp_path, benchmark="oxbuild")


def test_numpy_lists_and_a_truth_without_boxes(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "x")

    def change(truth: dict[str, Any]) -> None:
        truth["imlist"] = np.array(truth["imlist"])
        for entry in truth["gnd"]:
            del entry["bbx"]
            entry["easy"] = np.array(entry["easy"], dtype=np.int32)

    rewrite_truth(tmp_path / "x", change)
    truth = read_revisited(tmp_path / "x").truth
    assert truth.boxes is None
    assert truth.lists[0]["easy"].tolist() == []


@pytest.mark.reference
@pytest.mark.parametrize(("name", "images"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_the_published_ground_truths(reference_data: Path, name: str, images: int) -> None:
    truth = read_ground_truth(reference_data / "revisitop" / f"gnd_{name}.pkl")
    assert (len(truth.database), len(truth.queries)) == (images, 70)
    assert truth.boxes is not None


def entry(name: str, value: Any) -> Any:
    return lambda truth: truth["gnd"][2].update({name: value})


def whole(name: str, value: Any) -> Any:
    return lambda truth: truth.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth.pop("qimlist"), "expected a dict with imlist, qimlist and gnd"),
        (whole("imlist", []), "imlist is empty"),
        (whole("qimlist", []), "qimlist is empty"),
        (whole("imlist", "abc"), "imlist must be a list of image names"),
        (lambda truth: truth["imlist"].append("landmark0_0"), "imlist names an image twice"),
        (lambda truth: truth["qimlist"].__setitem__(0, "../secret"), "'../secret' is not the name of an image"),
        (lambda truth: truth["gnd"].pop(), "5 entries in gnd for 6 queries"),
        (whole("gnd", {}), "no list of entries in gnd for 6 queries"),
        (entry("easy", [0, 99]), "query 'query1_0': index 99 in 'easy' is outside imlist (0 to 21)"),
        (entry("easy", [-1]), "index -1 in 'easy' is outside"),
        (entry("junk", ["a"]), "'junk' must be a list of indices"),
        (entry("hard", None), "'hard' must be a list of indices"),
        (entry("junk", [6]), "an image stands twice in its easy, hard and junk lists"),
        (entry("bbx", [1, 2, 3]), "'bbx' must be four finite numbers"),
        (entry("bbx", [0, 0, float("nan"), 5]), "'bbx' must be four finite numbers"),
        (entry("bbx", [30, 0, 10, 5]), "is empty (left, top, right, bottom)"),
        (lambda truth: truth["gnd"][2].pop("bbx"), "only 5 of 6 queries have a box"),
    ],
)
def test_a_wrong_ground_truth_is_named(tmp_path: Path, change: Any, message: str) -> None:
    write_landmarks(tmp_path / "x")
    rewrite_truth(tmp_path / "x", change)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_revisited(tmp_path / "x")
    assert str(tmp_path / "x" / "gnd_roxford5k.pkl") in str(error.value)


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "x")
    for name in ("landmark1_3", "nothing_2", "query0_1", "query2_0"):
        (tmp_path / "x" / "jpg" / f"{name}.jpg").unlink()
    with pytest.raises(UserError, match=r"4 of the 28 images .* missing: landmark1_3\.jpg, nothing_2\.jpg, .*\.\.\.$"):
        read_revisited(tmp_path / "x")


def test_missing_folders_and_names_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a registered data set"):
        read_revisited(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no ground truth; expected gnd_<name>\.pkl .* \(it has nothing\)"):
        read_revisited(tmp_path / "empty")
    write_landmarks(tmp_path / "x")
    (tmp_path / "x" / "jpg").rename(tmp_path / "x" / "images")
    with pytest.raises(UserError, match="no such folder; the images of"):
        read_revisited(tmp_path / "x")
