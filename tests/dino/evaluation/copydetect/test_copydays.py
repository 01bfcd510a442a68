from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dino.errors import UserError
from dino.evaluation.copydetect.dataset import read_copydays
from tests.dino.evaluation.copydetect.copies import write_copies


def test_a_folder_in_the_real_format(tmp_path: Path) -> None:
    dataset = read_copydays(write_copies(tmp_path / "mine"))
    assert dataset.name == "mine"
    assert dataset.originals.paths[:2] == ["200000.jpg", "200100.jpg"]
    assert dataset.strong.paths[:3] == ["200001.jpg", "200002.jpg", "200101.jpg"]
    assert dataset.positives[:3] == [[0], [0], [1]]
    assert dataset.distractors is not None
    assert dataset.distractors.paths == [f"{number % 2}/{number}.jpg" for number in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert dataset.whitening is not None
    assert len(dataset.whitening.paths) == 12


def test_the_other_images_may_lie_elsewhere_or_be_absent(tmp_path: Path) -> None:
    write_copies(tmp_path / "mine")
    (tmp_path / "mine" / "distractors").rename(tmp_path / "yfcc")
    shutil.rmtree(tmp_path / "mine" / "whitening")
    dataset = read_copydays(tmp_path / "mine", distractors=tmp_path / "yfcc")
    assert dataset.distractors is not None
    assert dataset.distractors.root == tmp_path / "yfcc"
    assert dataset.whitening is None
    assert read_copydays(tmp_path / "mine").distractors is None


def test_several_originals_of_one_identity_are_all_positives(tmp_path: Path) -> None:
    write_copies(tmp_path / "x")
    shutil.copy(tmp_path / "x/original/200300.jpg", tmp_path / "x/original/200109.jpg")
    dataset = read_copydays(tmp_path / "x")
    assert dataset.positives[2] == [1, 2]
    assert dataset.positives[4] == [3]


def test_copies_without_an_original_are_counted_and_named(tmp_path: Path) -> None:
    write_copies(tmp_path / "x")
    (tmp_path / "x/original/200200.jpg").unlink()
    with pytest.raises(UserError, match=r"2 of 12 copies have no original .* 4 characters: 200201\.jpg, 200202\.jpg$"):
        read_copydays(tmp_path / "x")


@pytest.mark.parametrize("part", ["original", "strong"])
def test_a_missing_or_empty_part_is_named(tmp_path: Path, part: str) -> None:
    write_copies(tmp_path / "x")
    shutil.rmtree(tmp_path / "x" / part)
    with pytest.raises(UserError, match=f"has no folder '{part}'; expected original/ and strong/"):
        read_copydays(tmp_path / "x")
    (tmp_path / "x" / part).mkdir()
    with pytest.raises(UserError, match=f"{part} holds no images"):
        read_copydays(tmp_path / "x")


def test_wrong_folders_of_others_are_named(tmp_path: Path) -> None:
    write_copies(tmp_path / "x")
    with pytest.raises(UserError, match="--whitening .*absent: no such folder"):
        read_copydays(tmp_path / "x", whitening=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no images"):
        read_copydays(tmp_path / "x", distractors=tmp_path / "empty")
