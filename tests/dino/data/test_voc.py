"""VOCdevkit's classification lists: several classes an image, difficult ones not judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino.data.datasets import resolve_dataset
from dino.data.evaluation import EvalImages
from dino.data.generated.generate import generate
from dino.errors import UserError
from dino.registry import find_spec


def write_year(root: Path, lists: dict[str, dict[str, str]]) -> Path:
    """A year's folder with class lists {``dog_trainval``: {image: presence}}."""
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for name, entries in lists.items():
        lines = [f"{image} {presence:>2}\n" for image, presence in entries.items()]
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(lines))
        for image in entries:
            Image.fromarray(np.full((9, 12, 3), 7, np.uint8)).save(root / "JPEGImages" / f"{image}.jpg")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("000001\n000002\n")
    return root


LISTS = {
    "cat_trainval": {"000001": "1", "000002": "-1"},
    "dog_trainval": {"000001": "0", "000002": "1"},
    "cat_test": {"000003": "-1"},
    "dog_test": {"000003": "1"},
}


@pytest.fixture
def year(tmp_path: Path) -> Path:
    return write_year(tmp_path / "VOCdevkit" / "VOC2007", LISTS)


def test_labels_are_present_absent_or_not_judged(year: Path):
    images = resolve_dataset(year, split="train")
    assert images.classes == ["cat", "dog"]
    assert images.paths == ["JPEGImages/000001.jpg", "JPEGImages/000002.jpg"]
    assert images.labels.dtype == np.int8
    assert images.labels.tolist() == [[1, -1], [0, 1]]
    assert resolve_dataset(year, split="test").labels.tolist() == [[0, 1]]


def test_features_get_the_labels_of_each_image(year: Path):
    (batch,) = EvalImages(resolve_dataset(year), resize=8, crop=8, batch_size=4)
    assert batch.images.shape == (2, 3, 8, 8)
    assert batch.labels.tolist() == [[1, -1], [0, 1]]


def test_any_folder_above_the_year_will_do(year: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "paths.yaml").write_text("voc07: .\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    found = [resolve_dataset(place) for place in (year, year.parent, tmp_path, "voc07")]
    assert {images.digest for images in found} == {found[0].digest}
    assert {images.root for images in found} == {year}


def test_of_several_years_the_names_digits_choose(year: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_year(year.parent / "VOC2012", {"cow_train": {"000009": "1"}, "cow_val": {"000008": "1"}})
    (tmp_path / "paths.yaml").write_text("voc07: VOCdevkit\nvoc12: VOCdevkit\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    assert resolve_dataset("voc07").root == year
    assert resolve_dataset("voc12").classes == ["cow"]
    with pytest.raises(UserError, match="holds VOC2007, VOC2012: give the folder of one of them"):
        resolve_dataset(year.parent)
    # Without public test labels validation is what is tested on, and not trained on.
    assert resolve_dataset(year.parent / "VOC2012", split="test").paths == ["JPEGImages/000008.jpg"]
    assert resolve_dataset(year.parent / "VOC2012", split="train").paths == ["JPEGImages/000009.jpg"]


def test_a_list_without_its_test_archive_says_so(year: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for file in year.glob("ImageSets/Main/*_test.txt"):
        file.unlink()
    (tmp_path / "paths.yaml").write_text("voc07: VOCdevkit\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    with pytest.raises(
        UserError, match=r"_test\.txt \(it has trainval\); the test lists are in an archive of their own"
    ):
        resolve_dataset("voc07", split="test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "dog_trainval.txt",
            "000001 1\n000002 2\n",
            r"dog_trainval\.txt, line 2: expected an image's name and 1, 0 or",
        ),
        ("dog_trainval.txt", "000001 1\n", r"dog_trainval\.txt names other images than .*cat_trainval\.txt"),
        ("dog_trainval.txt", "", "names other images"),
    ],
)
def test_damaged_lists_are_named(year: Path, file: str, text: str, message: str):
    (year / "ImageSets" / "Main" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        resolve_dataset(year)


def test_a_list_that_names_images_which_are_not_there_is_refused(year: Path):
    (year / "JPEGImages" / "000002.jpg").unlink()
    with pytest.raises(UserError, match=r"names 1 images that are not there \(the first: .*000002\.jpg\)"):
        resolve_dataset(year)


def test_the_generated_scenes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path))
    generate(find_spec("voc-smoke"), tmp_path / "voc-smoke")
    train, test = (resolve_dataset("voc-smoke", split=split) for split in ("train", "test"))
    assert train.labels.shape == (18, 4)
    assert test.labels.shape == (12, 4)
    assert (train.labels == 1).any(axis=1).mean() > 0.9
    assert not set(train.paths) & set(test.paths)
    assert train.version == resolve_dataset("voc-smoke").version != ""


@pytest.mark.parametrize(("name", "command"), [("davis-smoke", "davis"), ("oxford-smoke", "retrieval")])
def test_sets_without_labelled_images_name_their_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
):
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path))
    generate(find_spec(name), tmp_path / name)
    with pytest.raises(UserError, match=f"no labelled images: it is for `dino {command}` alone"):
        resolve_dataset(name)
