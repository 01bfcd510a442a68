"""A tiny data set in Copydays' format: an original is a pattern of coarse colours, a copy its darkened middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ORIGINALS = 6


def write_copies(folder: Path, *, distractors: int = 8, whitening: int = 12) -> Path:
    """Six originals with two copies each; distractors lie in sub-folders."""
    generator = np.random.default_rng(1)

    def pattern() -> Image.Image:
        coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3)).astype(np.uint8))
        return coarse.resize((60, 40), Image.Resampling.BICUBIC)

    def write(image: Image.Image, *parts: str) -> None:
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    for number in range(ORIGINALS):
        image = pattern()
        write(image, "original", f"{2000 + number}00.jpg")
        write(image.crop((2, 2, 58, 38)), "strong", f"{2000 + number}01.jpg")
        write(image.point(lambda value: int(value * 0.7)), "strong", f"{2000 + number}02.jpg")
    for number in range(distractors):
        write(pattern(), "distractors", str(number % 2), f"{number}.jpg")
    for number in range(whitening):
        write(pattern(), "whitening", f"{number}.png")
    return folder
