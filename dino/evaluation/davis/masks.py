"""Index masks: how they are read, what their numbers mean, and how they are written with the DAVIS palette."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dino.files import atomic_path

Mask = NDArray[np.uint8]

VOID = 255
"""Pixels of a multi-object mask that belong to nothing; counted as background, as the official code does."""
BINARY_ABOVE = 127
"""A mask whose objects' values all lie above it is black and white: one object (DAVIS 2016)."""


class SequenceDefect(Exception):
    """What makes a sequence unusable; the message names the file."""


def davis_palette() -> NDArray[np.uint8]:
    """(256, 3) colours: the bits of an index, three at a time, from the highest bit of red, green and blue down."""
    index = np.arange(256, dtype=np.uint16)
    palette = np.zeros((256, 3), dtype=np.uint16)
    for level in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * level + channel)) & 1) << (7 - level)
    return palette.astype(np.uint8)


PALETTE = davis_palette()


@dataclass(frozen=True)
class MaskCode:
    """What the numbers in a sequence's masks mean; its first annotation decides."""

    binary: bool
    """Black and white, 255 being the object."""
    objects: tuple[int, ...]
    """Numbers of the objects, ascending; (1,) where binary."""

    @classmethod
    def of(cls, first: Mask) -> MaskCode:
        """From the raw first annotation. There may be no object in it."""
        values = np.flatnonzero(np.bincount(first.ravel(), minlength=256))
        values = values[values > 0]
        if len(values) and values[0] > BINARY_ABOVE:
            return cls(binary=True, objects=(1,))
        return cls(binary=False, objects=tuple(int(value) for value in values if value != VOID))

    def annotation(self, raw: Mask) -> Mask:
        """(H, W) object numbers of a raw annotation: 0 is background, and so is what the first frame does not show."""
        if self.binary:
            return (raw > BINARY_ABOVE).astype(np.uint8)
        known = np.zeros(256, np.uint8)
        known[list(self.objects)] = self.objects
        return known[raw]

    def result(self, raw: Mask, path: Path) -> Mask:
        """(H, W) object numbers of a raw mask that some method gave.

        Raises:
            SequenceDefect: It has a number that is no object of the first frame.
        """
        largest = int(raw.max(initial=0))
        if self.objects == (1,) and largest > BINARY_ABOVE:
            return (raw > BINARY_ABOVE).astype(np.uint8)
        if self.binary:
            return (raw > 0).astype(np.uint8)
        found = np.flatnonzero(np.bincount(raw.ravel(), minlength=256))
        unknown = sorted(set(found.tolist()) - {0, *self.objects})
        if unknown:
            raise SequenceDefect(
                f"{path}: index {unknown[0]} is no object of the first annotation (it shows "
                f"{', '.join(map(str, self.objects))})"
            )
        return raw


def read_mask(path: Path) -> Mask:
    """The raw numbers of a mask file, (H, W): palette indices or grey values.

    Raises:
        SequenceDefect: It is missing, damaged, or holds colours instead of indices.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("P", "L", "1"):
                raise SequenceDefect(f"{path}: a mask must be a palette or greyscale image of 8 bits, not {image.mode}")
            return np.asarray(image.convert("L") if image.mode == "1" else image, dtype=np.uint8)
    except FileNotFoundError:
        raise SequenceDefect(f"{path}: no such mask") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise SequenceDefect(f"{path}: {' '.join(str(error).split())}") from None


def write_mask(path: str | os.PathLike[str], mask: Mask) -> None:
    """Write object numbers (H, W) as an indexed PNG, atomically."""
    image = Image.fromarray(mask)
    image.putpalette(PALETTE.ravel().tolist())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def resize_nearest(mask: Mask, height: int, width: int) -> Mask:
    """Nearest-neighbour resize by Pillow's rule for the sampled place, which the authors' masks went through."""
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
