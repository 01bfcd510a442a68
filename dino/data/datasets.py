"""From a registered name or a folder to images: one split of a data set, decoded in memory where it is small."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino.data.decode import CorruptImage, decode
from dino.data.downloads import find_download
from dino.data.folder import LabelledImages, list_folder, listing_digest
from dino.data.voc import LISTS, find_voc, read_voc
from dino.errors import UserError, suggest
from dino.log import logger
from dino.registry import DatasetSpec, dataset_version, load_registry, locate, missing_reason

MEMORY_BUDGET = 1 << 30
"""Bytes up to which a set of equal-size images is kept decoded."""


@dataclass
class ImageSet:
    """One split of a data set: where its images are, what they show, and a way to get at them."""

    name: str
    """Of the registry, or the folder's."""
    kind: str
    root: Path
    split: str
    classes: list[str]
    paths: list[str]
    """Of the images, relative to ``root``."""
    labels: NDArray[Any]
    """(N,) int64; where an image has several classes (N, C) int8: 1 there, 0 not, -1 not judged (VOC's difficult)."""
    digest: str
    """Sixteen hex digits of the sorted (relative path, size) of the split's files (`dino.data.folder`)."""
    version: str = ""
    """`dataset_version` of a generated set; empty for others."""
    skipped: list[str] = field(default_factory=list)
    """Corrupt files met so far by this process, once each."""
    pixels: NDArray[np.uint8] | None = None
    """Images that came decoded, (N, 3, H, W): CIFAR's own files."""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Image ``index``: (H, W, 3) uint8, RGB.

        Raises:
            CorruptImage: It is none.
        """
        if self.pixels is not None:
            return self.pixels[index].transpose(1, 2, 0)
        return decode(self.root / self.paths[index])

    def read_or_neighbour(self, index: int) -> tuple[NDArray[np.uint8], list[str]]:
        """Image ``index``, or the nearest later one that is whole: a corrupt file must not end a run of days.

        Returns:
            The image, and a message for each file that was passed over.

        Raises:
            UserError: There is none.
        """
        messages: list[str] = []
        for offset in range(len(self)):
            try:
                return self.read((index + offset) % len(self)), messages
            except CorruptImage as error:
                messages.append(str(error))
                if len(messages) == 100:
                    break
        raise UserError(f"{self.root}: no readable image after '{self.paths[index]}'; the first problem: {messages[0]}")

    def note_skipped(self, messages: list[str]) -> None:
        """Count corrupt files and report each once."""
        for message in messages:
            if message not in self.skipped:
                self.skipped.append(message)
                logger.warning("skipped a corrupt image (%d so far): %s", len(self.skipped), message)


def resolve_dataset(name_or_folder: str | Path, *, split: str = "train") -> ImageSet:
    """One split of a registered data set or of a folder.

    Args:
        name_or_folder: A registered name, or a folder: one in a layout of torchvision's downloads
            (`dino.data.downloads`) or of VOCdevkit, or an ImageFolder, of which its sub-folder ``split`` is read where
            there is one, else itself.
        split: ``train`` or ``test``; the registry says which folder or list a registered set keeps it in.

    Raises:
        UserError: The set is unknown, missing, empty or of another version than its registration.
    """
    specs = load_registry()
    spec = specs.get(str(name_or_folder))
    if spec is not None:
        return _resolve_registered(spec, split)
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"'{name_or_folder}' is neither a registered data set{suggest(str(name_or_folder), specs)} "
            f"(registered: {', '.join(sorted(specs))}) nor a folder"
        )
    folder = folder.resolve()
    year = find_voc(folder)
    if year is not None:
        return _image_set(folder.name, "voc", year, split, read_voc(year, _voc_list(year, split)))
    download = _read_download(folder, split)
    if download is not None:
        return _image_set(folder.name, "torchvision", *download)
    root = folder / split if (folder / split).is_dir() else folder
    return _image_set(folder.name, "imagefolder", root, split, list_folder(root))


def _resolve_registered(spec: DatasetSpec, split: str) -> ImageSet:
    root = locate(spec)
    if root is None:
        raise UserError(missing_reason(spec) or f"data set '{spec.name}' is missing")
    version = dataset_version(spec)
    if spec.kind == "generated":
        check_manifest(spec, root, version)
    if spec.layout in UNLABELLED:
        raise UserError(
            f"data set '{spec.name}' has no labelled images: it is for `dino {UNLABELLED[spec.layout]}` alone"
        )
    if split not in spec.splits:
        raise UserError(f"data set '{spec.name}' has no split '{split}' (it has {', '.join(spec.splits)})")
    if spec.layout in ("voc", "multilabel"):
        year = find_voc(root, name=spec.name)
        if year is None:
            raise UserError(f"data set '{spec.name}': no {LISTS} in {root}, VOC20NN or VOCdevkit/VOC20NN below it")
        return _image_set(spec.name, spec.kind, year, split, read_voc(year, spec.splits[split]), version)
    folder = root / spec.splits[split]
    if not folder.is_dir() and spec.layout == "torchvision":
        download = _read_download(root, split)
        if download is None:
            raise UserError(
                f"data set '{spec.name}': {root} holds neither a download in torchvision's layout nor folders "
                f"{' and '.join(spec.splits.values())} with class sub-folders (docs/data.md shows the layouts)"
            )
        return _image_set(spec.name, spec.kind, *download)
    if not folder.is_dir():
        raise UserError(f"data set '{spec.name}': no folder {folder}; expected {spec.splits[split]}/<class>/<image>")
    return _image_set(spec.name, spec.kind, folder, split, list_folder(folder), version)


UNLABELLED = {"davis": "davis", "revisited": "retrieval", "copydays": "copydetect"}
"""Layouts without labelled images, and the subcommand that reads each."""


def _voc_list(year: Path, split: str) -> str:
    """The list that is meant by ``train`` or ``test``: where the test labels are not public, that of validation."""
    if any((year / LISTS).glob("*_test.txt")):
        return {"train": "trainval"}.get(split, split)
    return {"test": "val"}.get(split, split)


def _read_download(root: Path, split: str) -> tuple[Path, str, LabelledImages] | None:
    found = find_download(root)
    if found is None:
        return None
    download, place = found
    if split not in download.splits:
        raise UserError(f"{download.title} in {root} has no split '{split}' (it has {', '.join(download.splits)})")
    return place, split, download.read(place, split)


def check_manifest(spec: DatasetSpec, root: Path, version: str) -> None:
    """A generated set must be there, whole, and made with the registered settings.

    Raises:
        UserError: It is not; says what to run.
    """
    path = root / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except FileNotFoundError:
        raise UserError(f"data set '{spec.name}' is not in {root} yet; run `dino generate {spec.name}`") from None
    except (ValueError, KeyError):
        raise UserError(f"{path} is damaged; run `dino generate {spec.name} --force`") from None
    if found != version:
        raise UserError(
            f"{root} was generated with other settings ({found}, registered is {version}); "
            f"run `dino generate {spec.name}` again"
        )


def _image_set(name: str, kind: str, root: Path, split: str, images: LabelledImages, version: str = "") -> ImageSet:
    return ImageSet(
        name=name,
        kind=kind,
        root=root,
        split=split,
        classes=images.classes,
        paths=images.paths,
        labels=images.labels,
        digest=images.digest or listing_digest(root, [*images.paths, *images.label_files]),
        version=version,
        pixels=images.pixels,
    )


def load_in_memory(
    images: ImageSet, *, budget: int = MEMORY_BUDGET, replace: bool = True
) -> tuple[Tensor, Tensor] | None:
    """All images decoded, if they have one size and fit ``budget`` bytes.

    Args:
        images: The split.
        budget: Bytes.
        replace: Put a corrupt file's neighbour in its place (training); else leave the file out (evaluation).

    Returns:
        (n, 3, H, W) uint8 and the (n,) indices they have in ``images``; None where sizes differ or memory would not do.
    """
    first, _ = images.read_or_neighbour(0)
    shape = first.shape
    if len(images) * first.nbytes > budget:
        return None
    if images.pixels is not None:
        return _from_numpy(images.pixels), torch.arange(len(images))
    stacked = np.empty((len(images), *shape), dtype=np.uint8)
    kept: list[int] = []
    for index in range(len(images)):
        try:
            image = images.read(index)
        except CorruptImage as error:
            images.note_skipped([str(error)])
            if not replace:
                continue
            image, _ = images.read_or_neighbour(index)
        if image.shape != shape:
            return None
        stacked[len(kept)] = image
        kept.append(index)
    planar = torch.from_numpy(stacked[: len(kept)]).permute(0, 3, 1, 2).contiguous()
    return planar, torch.tensor(kept, dtype=torch.int64)


def _from_numpy(array: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only arrays: nothing here writes to them
        return torch.from_numpy(array)
