"""CIFAR-10 as torchvision's download leaves it (``cifar-10-batches-py``), without running what a pickle asks for."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino.errors import UserError

FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds arrays and plain containers; whatever else a file asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refused {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def is_cifar10(root: Path) -> bool:
    """Whether ``root`` holds (or is) torchvision's CIFAR-10 folder."""
    return (root / FOLDER / "batches.meta").is_file()


def read_cifar10(root: Path, split: str) -> tuple[list[str], list[str], NDArray[np.int64], NDArray[np.uint8], str]:
    """Class names, invented paths, labels, pixels (N, 3, 32, 32) and digest of one split.

    Raises:
        UserError: A file is missing or damaged.
    """
    pixels, labels, paths = [], [], []
    digest = hashlib.sha256()
    for name in BATCHES[split]:
        content = _read(root / FOLDER / name)
        try:
            pixels.append(np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(content[b"labels"], dtype=np.int64))
        except (KeyError, ValueError):
            raise UserError(f"{root / FOLDER / name} is damaged; download CIFAR-10 again") from None
        paths += [f"{name}/{number:05d}" for number in range(len(labels[-1]))]
        digest.update(f"{FOLDER}/{name}\0{(root / FOLDER / name).stat().st_size}\n".encode())
    classes = [name.decode() for name in _read(root / FOLDER / "batches.meta")[b"label_names"]]
    return classes, paths, np.concatenate(labels), np.concatenate(pixels), digest.hexdigest()[:16]


def _read(path: Path) -> dict[bytes, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; download CIFAR-10 again") from None
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}); download CIFAR-10 again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged; download CIFAR-10 again")
    return content
