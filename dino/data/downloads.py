"""Labelled sets in the layouts that torchvision's downloads, or the publishers' archives, have on disk.

Each layout is found by a file that only it has, in the given folder or a sub-folder of the usual name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dino.data.cifar import CIFAR10, CIFAR100
from dino.data.folder import LabelledImages, check_present
from dino.errors import UserError


@dataclass(frozen=True)
class Download:
    """A layout: how it is recognised and read."""

    title: str
    find: Callable[[Path], Path | None]
    """The folder that its paths are relative to; None where a folder is not in this layout."""
    read: Callable[[Path, str], LabelledImages]
    """One split of the folder that `find` returned; it raises `UserError` for what is missing or damaged."""
    splits: tuple[str, ...] = ("train", "test")
    md5: dict[str, str] = field(default_factory=dict)
    """What is published of its files' hashes (and torchvision checks), by path."""


def _by_file(folder: str, file: str) -> Callable[[Path], Path | None]:
    """Find ``<root>/<folder>/<file>`` or ``<root>/<file>``."""

    def find(root: Path) -> Path | None:
        return next((place for place in (root / folder, root) if (place / file).is_file()), None)

    return find


def _load_mat(path: Path, *keys: str) -> list[Any]:
    """Entries of a MATLAB file."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path}: missing; get it from the data set's publishers")
    try:
        content = loadmat(path, squeeze_me=True)
        return [content[key] for key in keys]
    except Exception as error:  # damaged bytes can fail anywhere in the reader
        raise UserError(f"{path} is damaged ({type(error).__name__}); download it again") from None


# --- Flowers-102 --------------------------------------------------------------------------------------------------

_FLOWERS = {"train": ("trnid", "valid"), "trn": ("trnid",), "valid": ("valid",), "test": ("tstid",)}
"""Which lists make a split. ``train`` is 2,040 images (paper.md, C.3), ``trn`` alone 1,020."""


def _read_flowers(root: Path, split: str) -> LabelledImages:
    lists = _load_mat(root / "setid.mat", *_FLOWERS[split])
    (every_label,) = _load_mat(root / "imagelabels.mat", "labels")
    numbers = np.concatenate([np.atleast_1d(each) for each in lists]).astype(np.int64)
    if not len(numbers) or numbers.min() < 1 or numbers.max() > np.size(every_label):
        raise UserError(f"{root / 'setid.mat'} does not fit {root / 'imagelabels.mat'}; download both again")
    paths = [f"jpg/image_{number:05d}.jpg" for number in numbers]
    check_present(root, paths, listed_in=root / "setid.mat")
    every_label = np.atleast_1d(every_label).astype(np.int64)
    return LabelledImages(
        classes=[f"{number:03d}" for number in range(1, int(every_label.max()) + 1)],
        paths=paths,
        labels=every_label[numbers - 1] - 1,
        label_files=["setid.mat", "imagelabels.mat"],
    )


# --- Oxford-IIIT Pets ---------------------------------------------------------------------------------------------


def _read_pets(root: Path, split: str) -> LabelledImages:
    listed = f"annotations/{'trainval' if split == 'train' else 'test'}.txt"
    names, labels = [], []
    for line in _lines(root / listed):
        try:
            name, label, *_ = line.split()
            labels.append(int(label) - 1)
        except ValueError:
            raise UserError(
                f"{root / listed}: '{line}' is not an image's name and its class; download it again"
            ) from None
        names.append(name)
    paths = [f"images/{name}.jpg" for name in names]
    check_present(root, paths, listed_in=root / listed)
    breeds = {label: name.rsplit("_", 1)[0] for name, label in zip(names, labels, strict=True)}
    return LabelledImages(
        classes=[breeds.get(label, str(label + 1)) for label in range(max(breeds) + 1)],
        paths=paths,
        labels=np.asarray(labels, dtype=np.int64),
        label_files=[listed],
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; unpack the data set's archives completely") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged; download it again") from None
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


# --- Stanford Cars ------------------------------------------------------------------------------------------------


def _read_cars(root: Path, split: str) -> LabelledImages:
    file = "devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
    if split == "test" and not (root / file).is_file():
        file = f"devkit/{file}"
    (annotations,) = _load_mat(root / file, "annotations")
    (names,) = _load_mat(root / "devkit" / "cars_meta.mat", "class_names")
    annotations = np.atleast_1d(annotations)
    try:
        paths = [f"cars_{split}/{name}" for name in annotations["fname"]]
        labels = annotations["class"].astype(np.int64) - 1
    except (IndexError, KeyError, ValueError, TypeError):
        raise UserError(f"{root / file} has no labels; the one with labels is needed") from None
    check_present(root, paths, listed_in=root / file)
    return LabelledImages(
        classes=[str(name) for name in np.atleast_1d(names)], paths=paths, labels=labels, label_files=[file]
    )


# --- iNaturalist --------------------------------------------------------------------------------------------------


def _inaturalist(year: int) -> Download:
    def read(root: Path, split: str) -> LabelledImages:
        file = f"{'train' if split == 'train' else 'val'}{year}.json"
        try:
            document = json.loads((root / file).read_text(encoding="utf-8"))
            numbers = sorted(int(category["id"]) for category in document["categories"])
            category_names = {int(category["id"]): str(category["name"]) for category in document["categories"]}
            position = {number: at for at, number in enumerate(numbers)}
            of_image = {entry["image_id"]: position[int(entry["category_id"])] for entry in document["annotations"]}
            paths = [str(image["file_name"]) for image in document["images"]]
            labels = [of_image[image["id"]] for image in document["images"]]
        except FileNotFoundError:
            raise UserError(f"{root / file}: missing; it belongs beside the images") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{root / file} is damaged; download it again") from None
        check_present(root, paths, listed_in=root / file)
        return LabelledImages(
            classes=[category_names[number] for number in numbers],
            paths=paths,
            labels=np.asarray(labels, dtype=np.int64),
            label_files=[file],
        )

    marker = f"train{year}.json"
    return Download(f"iNaturalist {year}", _by_file(f"inat{year}", marker), read)


_CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_CIFAR100_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_FLOWERS_MD5 = {
    "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
}


def _below(folder: str, hashes: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": value for name, value in hashes.items()}


DOWNLOADS = (
    Download("CIFAR-10", CIFAR10.find, CIFAR10.read, md5=_below(CIFAR10.folder, _CIFAR10_MD5)),
    Download("CIFAR-100", CIFAR100.find, CIFAR100.read, md5=_below(CIFAR100.folder, _CIFAR100_MD5)),
    Download("Flowers-102", _by_file("flowers-102", "setid.mat"), _read_flowers, tuple(_FLOWERS), md5=_FLOWERS_MD5),
    Download("Oxford-IIIT Pets", _by_file("oxford-iiit-pet", "annotations/trainval.txt"), _read_pets),
    Download("Stanford Cars", _by_file("stanford_cars", "devkit/cars_train_annos.mat"), _read_cars),
    _inaturalist(2018),
    _inaturalist(2019),
)


def find_download(root: Path) -> tuple[Download, Path] | None:
    """The layout that ``root`` is in and the folder that its paths are relative to; None for any other folder."""
    for download in DOWNLOADS:
        place = download.find(root)
        if place is not None:
            return download, place
    return None
