"""From a registered name or a folder to images: one split of a data set, decoded in memory where it is small."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino.config import suggest
from dino.data.cifar import is_cifar10, read_cifar10
from dino.data.decode import CorruptImage, decode
from dino.data.folder import list_folder, listing_digest
from dino.errors import UserError
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
    labels: NDArray[np.int64]
    digest: str
    """Sixteen hex digits of the sorted (relative path, size) of the split's files (`dino.data.folder`)."""
    version: str = ""
    """`dataset_version` of a generated set; empty for others."""
    skipped: list[str] = field(default_factory=list)
    """Corrupt files met so far by this process, once each."""
    pixels: NDArray[np.uint8] | None = None
    """Images that came decoded, (N, 3, H, W): CIFAR-10's own files."""

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
        name_or_folder: A registered name, or a folder read as an ImageFolder: its sub-folder ``split`` where there is
            one, else itself.
        split: ``train`` or ``test``; the registry says which folder a registered set keeps it in.

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
    return _resolve_folder(folder.name, "imagefolder", folder / split if (folder / split).is_dir() else folder, split)


def _resolve_registered(spec: DatasetSpec, split: str) -> ImageSet:
    root = locate(spec)
    if root is None:
        raise UserError(missing_reason(spec) or f"data set '{spec.name}' is missing")
    version = dataset_version(spec)
    if spec.kind == "generated":
        check_manifest(spec, root, version)
    if split not in spec.splits:
        raise UserError(f"data set '{spec.name}' has no split '{split}' (it has {', '.join(spec.splits)})")
    folder = root / spec.splits[split]
    if spec.kind == "torchvision" and not folder.is_dir():
        if is_cifar10(root):
            classes, paths, labels, pixels, digest = read_cifar10(root, split)
            return ImageSet(spec.name, spec.kind, root, split, classes, paths, labels, digest, pixels=pixels)
        raise UserError(
            f"data set '{spec.name}': {root} holds neither torchvision's cifar-10-batches-py nor folders "
            f"{' and '.join(spec.splits.values())} with class sub-folders"
        )
    if not folder.is_dir():
        raise UserError(f"data set '{spec.name}': no folder {folder}; expected {spec.splits[split]}/<class>/<image>")
    return _resolve_folder(spec.name, spec.kind, folder, split, version)


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


def _resolve_folder(name: str, kind: str, root: Path, split: str, version: str = "") -> ImageSet:
    listing = list_folder(root)
    return ImageSet(
        name=name,
        kind=kind,
        root=root,
        split=split,
        classes=listing.classes,
        paths=listing.paths,
        labels=np.asarray(listing.labels, dtype=np.int64),
        digest=listing_digest(root, listing.paths),
        version=version,
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
