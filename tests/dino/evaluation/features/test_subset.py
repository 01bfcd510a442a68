from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dino.errors import UserError
from dino.evaluation.features.files import FeatureData, FeatureMeta, FeatureSet
from dino.evaluation.features.subset import Subset, choose_share


def features(labels: Any, *, skipped: list[str] | None = None, paths: bool = True) -> FeatureSet:
    labels = np.asarray(labels)
    classes = ["ant", "bee", "cat"]
    data = FeatureData(name="world", version="", digest="d", split="train", classes=classes, images=len(labels))
    names = [f"{classes[label] if labels.ndim == 1 else 'x'}/{row}.png" for row, label in enumerate(labels)]
    values = np.arange(len(labels), dtype=np.float32)[:, None]
    return FeatureSet(values, labels, FeatureMeta(data=data, skipped=skipped or []), np.array(names) if paths else None)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=120),
    fraction=st.floats(0.001, 1.0),
    seed=st.integers(0, 2**31),
)
def test_every_class_keeps_its_share_and_at_least_one_image(labels: list[int], fraction: float, seed: int) -> None:
    array = np.asarray(labels)
    rows = choose_share(array, fraction, seed=seed)
    assert (np.diff(rows) > 0).all()
    counts, kept = np.bincount(array, minlength=6), np.bincount(array[rows], minlength=6)
    np.testing.assert_array_equal(kept, np.where(counts > 0, np.maximum(1, np.rint(fraction * counts)), 0))


def test_share_is_seeded_and_smaller_ones_are_parts_of_larger() -> None:
    labels = np.arange(1000) % 10
    one, ten = choose_share(labels, 0.01, seed=0), choose_share(labels, 0.1, seed=0)
    assert (len(one), len(ten)) == (10, 100)
    assert set(one) < set(ten)
    np.testing.assert_array_equal(one, choose_share(labels, 0.01, seed=0))
    assert set(one) != set(choose_share(labels, 0.01, seed=1))
    np.testing.assert_array_equal(choose_share(labels, 1.0, seed=3), np.arange(1000))


def test_share_of_several_labels_an_image_shows_every_class() -> None:
    labels = np.zeros((200, 3), np.int8)
    labels[:, 0] = 1
    labels[[17], 1] = 1
    labels[:, 2] = -1  # never present: nothing to keep
    rows = choose_share(labels, 0.05, seed=0)
    assert 17 in rows
    assert len(rows) in (10, 11)


def test_list_takes_paths_and_unique_names_and_ignores_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("cat/2.png\n\n 0.png \n1.png\nant/0.png\n")
    chosen, described, notes = Subset(list_file=str(tmp_path / "list.txt")).apply(features([0, 1, 2, 2]))
    assert chosen.features[:, 0].tolist() == [0, 1, 2]
    assert chosen.labels.tolist() == [0, 1, 2]
    assert described is not None
    assert (described["list"], described["images"], notes) == ("list.txt", 3, [])


def test_digest_is_of_the_chosen_images_not_of_how_they_were_named(tmp_path: Path) -> None:
    train = features([0, 1, 2, 2])
    digests = []
    for text in ("0.png\n1.png\n2.png\n", "cat/2.png\nant/0.png\nbee/1.png", "0.png\n1.png\n3.png\n"):
        (tmp_path / "list.txt").write_text(text)
        described = Subset(list_file=str(tmp_path / "list.txt")).apply(train)[1]
        assert described is not None
        digests.append(described["digest"])
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 16


def test_listed_image_that_could_not_be_read_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("0.png\n1.png\n2.png\nbee/9.png\n")
    train = features([0, 1, 2], skipped=["/data/train/bee/9.png: no image"])
    chosen, _, notes = Subset(list_file=str(tmp_path / "list.txt")).apply(train)
    assert len(chosen.labels) == 3
    assert notes == ["1 of 4 listed images skipped as unreadable"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0.png\n8.png\n9.png\n",
            r"2 of 3 names are of no training image \(the first: '8.png', an image here is 'ant/0",
        ),
        ("", "names no image"),
        ("0.png\n2.png\n", r"leaves 1 classes without a training image \(the first: 'bee'\)"),
    ],
)
def test_wrong_lists_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        Subset(list_file=str(tmp_path / "list.txt")).apply(features([0, 1, 2]))


def test_name_of_several_images_missing_file_and_features_without_paths(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\n")
    train = features([0, 1, 2])
    with pytest.raises(UserError, match="absent.txt: No such file"):
        Subset(list_file=str(tmp_path / "absent.txt")).apply(train)
    with pytest.raises(UserError, match="do not hold the paths"):
        Subset(list_file=str(tmp_path / "list.txt")).apply(features([0, 1, 2], paths=False))
    twice = FeatureSet(train.features, train.labels, train.meta, np.array(["ant/a.png", "bee/a.png", "cat/c.png"]))
    with pytest.raises(UserError, match="several training images are called 'a.png'"):
        Subset(list_file=str(tmp_path / "list.txt")).apply(twice)


@pytest.mark.parametrize("fraction", [0.0, 1.5, -0.1])
def test_share_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match="--subset must be a share"):
        Subset(fraction=fraction).apply(features([0, 1, 2]))


def test_no_subset_is_everything_and_described_as_none() -> None:
    train = features([0, 1, 2])
    assert Subset().apply(train) == (train, None, [])
