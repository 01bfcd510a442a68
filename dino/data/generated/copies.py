"""Generated copies in Copydays' format: originals, strongly attacked copies, distractors and images for the whitening.

Every image is a crowded scene. A copy goes through one attack on its geometry (cut, turned, put into another picture,
covered) and one on its pixels (blur, tone, less light, heavy JPEG), as Copydays' *strong* ones went through print, scan
and paint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dino.data.generated.drawing import Image, draw_background, draw_sprite, paste, placement
from dino.data.generated.schemas import CopydaysSettings
from dino.data.generated.textures import TEXTURES
from dino.data.generated.writing import write_jpeg, write_manifest
from dino.registry import DatasetSpec

FIRST = 2000
"""The first original's identity, the first four characters of its name, as in Copydays."""

Attack = Callable[[Image, np.random.Generator], Image]


def draw_picture(size: int, rng: np.random.Generator) -> Image:
    """A scene of three to seven objects, its long side ``size`` pixels."""
    short = round(size * rng.uniform(0.65, 0.9))
    height, width = (short, size) if rng.random() < 0.7 else (size, short)
    image = draw_background(height, width, rng)
    _cover(image, int(rng.integers(3, 8)), (0.3, 0.6), rng)
    return image


def _cover(image: Image, count: int, sizes: tuple[float, float], rng: np.random.Generator) -> None:
    """Paint ``count`` objects over ``image``, their sizes relative to its short side."""
    height, width = image.shape[:2]
    for _ in range(count):
        size = max(8, round(min(height, width) * rng.uniform(*sizes)))
        name = list(TEXTURES)[rng.integers(len(TEXTURES))]
        center = (rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height)
        paste(image, draw_sprite(name, size, rng), placement(size, center=center, angle=rng.uniform(-0.3, 0.3)))


def cut(image: Image, rng: np.random.Generator) -> Image:
    """A part with 40 to 80 % of the area, enlarged to the size of the whole."""
    height, width = image.shape[:2]
    share = np.sqrt(rng.uniform(0.4, 0.8))
    rows, columns = round(height * share), round(width * share)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return _resized(image[top : top + rows, left : left + columns], height, width)


def turned(image: Image, rng: np.random.Generator) -> Image:
    """Turned by 8 to 25 degrees, on black or white."""
    height, width = image.shape[:2]
    degrees = rng.uniform(8, 25) * rng.choice([-1, 1])
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 0.9)
    paper = int(rng.choice([0, 255]))
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=(paper, paper, paper)), np.uint8)


def inserted(image: Image, rng: np.random.Generator) -> Image:
    """Put into another picture, on 50 to 80 % of its area."""
    height, width = image.shape[:2]
    other = _resized(draw_picture(max(height, width), rng), height, width)
    share = np.sqrt(rng.uniform(0.5, 0.8))
    rows, columns = round(height * share), round(width * share)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    other[top : top + rows, left : left + columns] = _resized(image, rows, columns)
    return other


def covered(image: Image, rng: np.random.Generator) -> Image:
    """With one to three things in front of it."""
    result = image.copy()
    _cover(result, int(rng.integers(1, 4)), (0.25, 0.45), rng)
    return result


def blurred(image: Image, rng: np.random.Generator) -> Image:
    """Out of focus, by 0.7 to 1.5 % of the long side."""
    sigma = rng.uniform(0.007, 0.015) * max(image.shape)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def toned(image: Image, rng: np.random.Generator) -> Image:
    """Other contrast (gamma) and colour balance, or none at all (greyscale)."""
    gamma = np.exp(rng.uniform(0.2, 0.6) * rng.choice([-1, 1]))
    tone = 255 * (image / 255.0) ** gamma * rng.uniform(0.7, 1.15, 3)
    if rng.random() < 0.3:
        tone = np.repeat(tone.mean(axis=2, keepdims=True), 3, axis=2)
    return np.clip(tone, 0, 255).astype(np.uint8)


def dimmed(image: Image, rng: np.random.Generator) -> Image:
    """A third to two thirds of the light."""
    return (image * rng.uniform(0.33, 0.67)).astype(np.uint8)


def squeezed(image: Image, rng: np.random.Generator) -> Image:
    """JPEG at quality 8 to 20 and back."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 21))])
    assert done, "OpenCV could not encode a JPEG"
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


GEOMETRY: tuple[Attack, ...] = (cut, turned, inserted, covered)
PIXELS: tuple[Attack, ...] = (blurred, toned, dimmed, squeezed)


def attack(image: Image, rng: np.random.Generator) -> Image:
    """One attack of each kind."""
    moved = GEOMETRY[rng.integers(len(GEOMETRY))](image, rng)
    return PIXELS[rng.integers(len(PIXELS))](moved, rng)


def _resized(image: Image, height: int, width: int) -> Image:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def write_copydays(spec: DatasetSpec, folder: Path) -> None:
    """Write ``original``, ``strong``, ``distractors``, ``whitening`` into the empty ``folder``, then the manifest."""
    settings = spec.settings
    assert isinstance(settings, CopydaysSettings)
    for part in ("original", "strong", "distractors", "whitening"):
        (folder / part).mkdir()
    for number in range(settings.originals):
        rng = np.random.default_rng([settings.seed, 0, number])
        original = draw_picture(settings.size, rng)
        identity = FIRST + number
        write_jpeg(folder / "original" / f"{identity}00.jpg", original)
        for copy in range(1, settings.strong + 1):
            write_jpeg(folder / "strong" / f"{identity}{copy:02d}.jpg", attack(original, rng))
    for part_index, part in enumerate(("distractors", "whitening"), start=1):
        for number in range(getattr(settings, part)):
            rng = np.random.default_rng([settings.seed, part_index, number])
            write_jpeg(folder / part / f"{part[0]}{number:05d}.jpg", draw_picture(settings.size, rng))
    counts = {"original": settings.originals, "strong": settings.originals * settings.strong}
    write_manifest(spec, folder, **counts, distractors=settings.distractors, whitening=settings.whitening)
