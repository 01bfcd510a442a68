"""What every generator writes: images, palette masks, and at last the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dino.registry import DatasetSpec, dataset_version

JPEG_QUALITY = 95


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image (H, W, 3) without loss."""
    # Level 1 of zlib: noise hardly compresses, and writing is most of the work.
    path.write_bytes(_encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1]))


def write_jpeg(path: Path, image: NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> None:
    """Write an RGB image (H, W, 3) as JPEG."""
    path.write_bytes(_encoded(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality]))


def _encoded(suffix: str, image: NDArray[np.uint8], options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image[..., ::-1], options)
    assert done, f"OpenCV could not encode a {suffix[1:]}"
    return data.tobytes()


def palette() -> list[int]:
    """PASCAL VOC's colours of the numbers 0-255, flat; DAVIS' first ones are the same.

    The bits of a number, three at a time from the lowest, are the highest bits of red, green and blue.
    """
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            colors[:, channel] |= (numbers >> (3 * place + channel) & 1) << (7 - place)
    return [int(value) for value in colors.ravel()]


_PALETTE = palette()


def write_mask(path: Path, numbers: NDArray[np.uint8]) -> None:
    """Write an (H, W) map of numbers as a palette PNG, as VOC and DAVIS keep theirs."""
    image = Image.fromarray(numbers)
    image.putpalette(_PALETTE)
    image.save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a list of names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_manifest(spec: DatasetSpec, folder: Path, **content: Any) -> None:
    """Write ``manifest.json``, which says that the set is whole: the last of its files."""
    assert spec.settings is not None
    settings = spec.settings.model_dump(mode="json")
    manifest = {"name": spec.name, "digest": dataset_version(spec), "settings": settings, **content}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
