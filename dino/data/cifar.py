"""CIFAR-10 and CIFAR-100 as torchvision's downloads leave them, without running what a pickle asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino.data.folder import LabelledImages
from dino.data.plain_pickle import RefusedName, unpickle_plain
from dino.errors import UserError


@dataclass(frozen=True)
class Cifar:
    """One of the two sets: its folder, its files and what their entries are called."""

    title: str
    folder: str
    batches: dict[str, list[str]]
    meta: str
    labels: bytes
    label_names: bytes

    def find(self, root: Path) -> Path | None:
        """The folder that holds the set's own folder: ``root``, or its parent where it is that folder itself."""
        for parent in (root, root.parent):
            if (parent / self.folder / self.meta).is_file() and (parent == root or root.name == self.folder):
                return parent
        return None

    def read(self, root: Path, split: str) -> LabelledImages:
        """One split, its paths invented and its pixels decoded.

        Raises:
            UserError: A file is missing or damaged.
        """
        pixels, labels, paths = [], [], []
        digest = hashlib.sha256()
        for name in self.batches[split]:
            path = root / self.folder / name
            content = self._content(path)
            try:
                pixels.append(np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
                labels.append(np.asarray(content[self.labels], dtype=np.int64))
            except (KeyError, ValueError):
                raise UserError(f"{path} is damaged; download {self.title} again") from None
            paths += [f"{name}/{number:05d}" for number in range(len(labels[-1]))]
            digest.update(f"{self.folder}/{name}\0{path.stat().st_size}\n".encode())
        names = self._content(root / self.folder / self.meta).get(self.label_names, [])
        return LabelledImages(
            classes=[name.decode() for name in names],
            paths=paths,
            labels=np.concatenate(labels),
            pixels=np.concatenate(pixels),
            digest=digest.hexdigest()[:16],
        )

    def _content(self, path: Path) -> dict[bytes, Any]:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path}: missing; download {self.title} again") from None
        try:
            content = unpickle_plain(data, encoding="bytes")
        except RefusedName as refused:
            raise UserError(f"{path} is damaged (refused {refused}); download {self.title} again") from None
        except Exception as error:  # damaged bytes can fail anywhere in the reader
            raise UserError(f"{path} is damaged ({error}); download {self.title} again") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} is damaged; download {self.title} again")
        return content


CIFAR10 = Cifar(
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    batches={"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
    meta="batches.meta",
    labels=b"labels",
    label_names=b"label_names",
)
CIFAR100 = Cifar(
    title="CIFAR-100",
    folder="cifar-100-python",
    batches={"train": ["train"], "test": ["test"]},
    meta="meta",
    labels=b"fine_labels",
    label_names=b"fine_label_names",
)
