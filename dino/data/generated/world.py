"""The generated world, classification part: seeded textures, learnable without labels by a tiny ViT in a minute.

A class is a texture (`dino.data.generated.textures`) in one of five hues, four classes a hue. What a pixel-wise
comparison would go by is drawn anew for each image: phase, scale, small rotation, light, contrast and its sign,
saturation, noise. The features of random weights therefore tell classes apart poorly, while views of one image agree on
hue and texture.

Why the hue: the teacher's targets grow out of the uniform state only along features whose correlation between views
exceeds teacher over student temperature (0.4 in the paper). Textures alone in random features have 0.15, and nothing is
learnt; with hues it is 0.5. Hue alone cannot tell the four classes of a hue apart. The folder is an ImageFolder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dino.data.generated.schemas import WorldSettings
from dino.data.generated.textures import TEXTURES, Array, Texture, random_sign
from dino.data.generated.transfer_textures import TRANSFER_TEXTURES
from dino.data.generated.writing import write_manifest, write_png
from dino.errors import UserError
from dino.registry import DatasetSpec


@dataclass(frozen=True)
class Family:
    """A family of textures, and the hue of the first in circles."""

    textures: dict[str, Texture]
    first_hue: float = 0.0


WORLD = Family(TEXTURES)
FAMILIES = {"world": WORLD, "transfer": Family(TRANSFER_TEXTURES, first_hue=0.1)}
"""What a set's setting ``textures`` names. Those of ``transfer`` also have hues between those of ``world``."""


def class_names(settings: WorldSettings) -> list[str]:
    """The first ``settings.classes`` textures of the family."""
    known = FAMILIES[settings.textures].textures
    if settings.classes > len(known):
        raise UserError(
            f"the generated {settings.textures} textures make {len(known)} classes at most, not {settings.classes}"
        )
    return list(known)[: settings.classes]


HUES = 5
"""Typical hues that the classes share."""


def _paint(hue: Array, saturation: Array) -> Array:
    """Colours (n, 3) of full value, from hues and saturations (n,)."""
    sixth = (np.array([5, 3, 1], np.float32) + 6 * hue[:, None]) % 6
    return 1 - saturation[:, None] * np.clip(np.minimum(sixth, 4 - sixth), 0, 1)


def draw_images(
    name: str, count: int, size: int, rng: np.random.Generator, *, family: Family = WORLD
) -> NDArray[np.uint8]:
    """``count`` images of the texture ``name``: (count, size, size, 3), RGB."""

    def per_image(low: float, high: float, *shape: int) -> Array:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    # Coordinates in periods, about an origin in the middle half of the image (that of rings and spirals).
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = axis[None, None, :] - per_image(0.25, 0.75, 1, 1)
    y = axis[None, :, None] - per_image(0.25, 0.75, 1, 1)
    periods = np.exp(per_image(np.log(3.2), np.log(6.0), 1, 1))
    angle = per_image(-0.2, 0.2, 1, 1)
    u = periods * (np.cos(angle) * x - np.sin(angle) * y)
    v = periods * (np.sin(angle) * x + np.cos(angle) * y)
    contrast = per_image(0.2, 0.4, 1, 1) * random_sign(rng, count)
    light = per_image(0.4, 0.6, 1, 1) + per_image(-0.1, 0.1, 1, 1) * x + per_image(-0.1, 0.1, 1, 1) * y
    typical = family.first_hue + list(family.textures).index(name) % HUES / HUES
    hue = typical + rng.normal(0, 0.06, count).astype(np.float32)
    color = _paint(hue, per_image(0.5, 0.9))
    images = (light + contrast * family.textures[name](u, v, rng))[..., None] * color[:, None, None, :]
    images += per_image(0.01, 0.05, 1, 1, 1) * rng.standard_normal(images.shape, dtype=np.float32)
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def write_world(spec: DatasetSpec, folder: Path) -> None:
    """Write the set into the empty ``folder``: ``train/<class>/00000.png``, ``test/...``, at last ``manifest.json``."""
    settings = spec.settings
    assert isinstance(settings, WorldSettings)
    counts = {"train": settings.train_per_class, "test": settings.test_per_class}
    names, family = class_names(settings), FAMILIES[settings.textures]
    for split_index, (split, count) in enumerate(counts.items()):
        for class_index, name in enumerate(names):
            # A stream for each class and split: adding classes or images leaves the others' first images as they were.
            rng = np.random.default_rng([settings.seed, split_index, class_index])
            target = folder / spec.splits[split] / name
            target.mkdir(parents=True)
            for number, image in enumerate(draw_images(name, count, settings.image_size, rng, family=family)):
                write_png(target / f"{number:05d}.png", image)
    totals = {split: count * len(names) for split, count in counts.items()}
    write_manifest(spec, folder, classes=names, **totals)
