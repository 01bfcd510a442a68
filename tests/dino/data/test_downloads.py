"""Layouts of downloads: read as torchvision reads them, and each kind of damage named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as theirs
from PIL import Image
from scipy.io import savemat

from dino.data.datasets import ImageSet, resolve_dataset
from dino.errors import UserError
from tests.dino.data.python2 import python2_pickle


def write_jpeg(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("test", 3)):
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        document = {b"data": data, b"fine_labels": [*range(count)][::-1], b"coarse_labels": [0] * count}
        (folder / name).write_bytes(python2_pickle(document))
    names = {b"fine_label_names": [f"kind{number}".encode() for number in range(6)]}
    (folder / "meta").write_bytes(python2_pickle(names))


def flowers(root: Path) -> None:
    folder = root / "flowers-102"
    for number in range(1, 10):
        write_jpeg(folder / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[3, 1, 2, 3, 1, 2, 3, 1, 2]], np.uint8)})
    lists = {"trnid": [[2, 9, 4]], "valid": [[1, 5]], "tstid": [[8, 3, 6, 7]]}
    savemat(folder / "setid.mat", {name: np.array(value, np.uint16) for name, value in lists.items()})


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    lists = {"trainval": [("Abyssinian_1", 1), ("beagle_7", 2), ("beagle_2", 2)], "test": [("beagle_3", 2)]}
    (folder / "annotations").mkdir(parents=True)
    for name, entries in lists.items():
        lines = [f"{image} {label} 1 1\n" for image, label in entries]
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines))
        for number, (image, _) in enumerate(entries):
            write_jpeg(folder / "images" / f"{image}.jpg", number)


def cars(root: Path) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    fields = [(name, "O") for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    lists = {
        "train": ("devkit/cars_train_annos.mat", [2, 1, 2]),
        "test": ("cars_test_annos_withlabels.mat", [1, 2]),
    }
    for split, (file, labels) in lists.items():
        table = np.zeros((1, len(labels)), dtype=fields)
        for number, label in enumerate(labels):
            table[0, number] = (1, 1, 5, 5, label, f"{number + 1:05d}.jpg")
            write_jpeg(folder / f"cars_{split}" / f"{number + 1:05d}.jpg", number)
        savemat(folder / file, {"annotations": table})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([["AM General", "BMW M3"]], dtype=object)})


def inaturalist(root: Path) -> None:
    for split, entries in {"train": [(10, 7), (11, 3), (12, 7)], "val": [(20, 3)]}.items():
        document: dict[str, Any] = {
            "categories": [{"id": 7, "name": "moss"}, {"id": 3, "name": "heron"}],
            "images": [{"id": image, "file_name": f"train_val2018/Birds/{image}.jpg"} for image, _ in entries],
            "annotations": [{"image_id": image, "category_id": label} for image, label in reversed(entries)],
        }
        for image, _ in entries:
            write_jpeg(root / "train_val2018" / "Birds" / f"{image}.jpg", image)
        (root / f"{split}2018.json").write_text(json.dumps(document))


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that every downloadable set's line of data-paths.yaml leads to."""
    names = ("cifar100", "flowers", "pets", "cars", "inat18")
    (tmp_path / "paths.yaml").write_text("".join(f"{name}: here\n" for name in names))
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    return tmp_path / "here"


def pairs(images: ImageSet) -> list[tuple[bytes, int]]:
    return [(images.read(index).tobytes(), int(images.labels[index])) for index in range(len(images))]


def their_pairs(images: Any) -> list[tuple[bytes, int]]:
    return [(np.asarray(image.convert("RGB")).tobytes(), int(label)) for image, label in images]


def test_cifar100_is_read_as_torchvision_reads_it(registered: Path, monkeypatch: pytest.MonkeyPatch):
    cifar100(registered)
    monkeypatch.setattr(theirs.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    for split in ("train", "test"):
        expected = theirs.CIFAR100(registered, train=split == "train")
        assert pairs(resolve_dataset("cifar100", split=split)) == their_pairs(expected)
        assert resolve_dataset("cifar100", split=split).classes == expected.classes


def test_flowers_train_on_two_lists_each_read_as_torchvision_reads_it(
    registered: Path, monkeypatch: pytest.MonkeyPatch
):
    flowers(registered)
    monkeypatch.setattr(theirs.Flowers102, "_check_integrity", lambda self: True)
    expected = {split: their_pairs(theirs.Flowers102(registered, split=split)) for split in ("train", "val", "test")}
    assert pairs(resolve_dataset("flowers", split="trn")) == expected["train"]
    assert pairs(resolve_dataset("flowers", split="valid")) == expected["val"]
    assert pairs(resolve_dataset("flowers", split="train")) == expected["train"] + expected["val"]
    assert pairs(resolve_dataset("flowers", split="test")) == expected["test"]
    assert resolve_dataset("flowers").classes == ["001", "002", "003"]


def test_pets_are_read_as_torchvision_reads_them(registered: Path):
    pets(registered)
    for split, name in (("train", "trainval"), ("test", "test")):
        expected = theirs.OxfordIIITPet(registered, split=name)
        assert pairs(resolve_dataset("pets", split=split)) == their_pairs(expected)
    assert resolve_dataset("pets").classes == ["Abyssinian", "beagle"]


def test_cars_are_read_as_torchvision_reads_them(registered: Path):
    cars(registered)
    for split in ("train", "test"):
        expected = theirs.StanfordCars(registered, split=split)
        assert pairs(resolve_dataset("cars", split=split)) == their_pairs(expected)
        assert resolve_dataset("cars", split=split).classes == expected.classes
    # As the devkit for the test images keeps it.
    file = registered / "stanford_cars" / "cars_test_annos_withlabels.mat"
    before = resolve_dataset("cars", split="test").labels.tolist()
    file.rename(file.parent / "devkit" / file.name)
    assert resolve_dataset("cars", split="test").labels.tolist() == before


def test_inaturalist_is_read_by_its_json_files(registered: Path):
    inaturalist(registered)
    train, test = (resolve_dataset("inat18", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ["heron", "moss"]  # in the order of their numbers
    assert train.paths == [f"train_val2018/Birds/{number}.jpg" for number in (10, 11, 12)]
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 1], [0])


@pytest.mark.parametrize(
    ("write", "folder"),
    [(cifar100, "cifar-100-python"), (flowers, "flowers-102"), (pets, "oxford-iiit-pet"), (cars, "stanford_cars")],
)
def test_a_folder_given_by_path_may_be_the_sets_own(tmp_path: Path, write: Callable[[Path], None], folder: str):
    write(tmp_path)
    above, itself = resolve_dataset(tmp_path, split="test"), resolve_dataset(tmp_path / folder, split="test")
    assert pairs(above) == pairs(itself)
    assert above.digest == itself.digest
    assert above.kind == "torchvision"


def test_the_digest_covers_the_labels(tmp_path: Path):
    flowers(tmp_path)
    before = resolve_dataset(tmp_path, split="train").digest
    lists = {"trnid": [[2, 9]], "valid": [[4, 1, 5]], "tstid": [[8, 3, 6, 7]], "more": [[1] * 40]}
    savemat(tmp_path / "flowers-102" / "setid.mat", {name: np.array(value) for name, value in lists.items()})
    assert resolve_dataset(tmp_path, split="train").digest != before


@pytest.mark.parametrize(
    ("write", "spoil", "message"),
    [
        (cifar100, lambda root: (root / "cifar-100-python" / "train").unlink(), "train: missing; download CIFAR-100"),
        (
            cifar100,
            lambda root: (root / "cifar-100-python" / "train").write_bytes(b"\x80"),
            "train is damaged",
        ),
        (
            flowers,
            lambda root: (root / "flowers-102" / "setid.mat").write_bytes(b"MATLAB"),
            r"setid\.mat is damaged",
        ),
        (flowers, lambda root: (root / "flowers-102" / "imagelabels.mat").unlink(), r"imagelabels\.mat: missing"),
        (
            flowers,
            lambda root: [path.unlink() for path in (root / "flowers-102" / "jpg").glob("*[29].jpg")],
            r"setid\.mat names 2 images that are not there \(the first: .*image_00002\.jpg\)",
        ),
        (
            pets,
            lambda root: (root / "oxford-iiit-pet" / "annotations" / "trainval.txt").write_text("beagle_1\n"),
            r"trainval\.txt: 'beagle_1' is not an image's name and its class",
        ),
        (
            pets,
            lambda root: (root / "oxford-iiit-pet" / "annotations" / "trainval.txt").write_text("# nothing\n"),
            r"trainval\.txt names no image",
        ),
        (
            cars,
            lambda root: savemat(root / "stanford_cars" / "devkit" / "cars_train_annos.mat", {"annotations": [1]}),
            "has no labels",
        ),
        (
            inaturalist,
            lambda root: (root / "train2018.json").write_text('{"images": []}'),
            r"train2018\.json is damaged",
        ),
    ],
)
def test_damage_is_named_with_the_way_out(
    tmp_path: Path, write: Callable[[Path], None], spoil: Callable[[Path], Any], message: str
):
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        resolve_dataset(tmp_path, split="train")


def test_a_split_that_a_download_has_not_is_refused(tmp_path: Path):
    pets(tmp_path)
    with pytest.raises(UserError, match=r"Oxford-IIIT Pets in .* has no split 'valid' \(it has train, test\)"):
        resolve_dataset(tmp_path, split="valid")
