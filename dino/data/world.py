"""The generated world, classification part: seeded textures, learnable without labels by a tiny ViT in a minute.

A class is a texture (`dino.data.textures`). What a pixel-wise comparison would go by is drawn anew for each image:
phase, scale, small rotation, light, contrast and its sign, tint, noise. So the features of random weights tell classes
apart poorly, while views of one image agree on little else than the texture. The folder is an ImageFolder.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dino.data.textures import TEXTURES, Array, random_sign
from dino.errors import UserError
from dino.registry import DatasetSpec, WorldSettings, dataset_version


def class_names(settings: WorldSettings) -> list[str]:
    """The first ``settings.classes`` textures."""
    if settings.classes > len(TEXTURES):
        raise UserError(f"the generated world has {len(TEXTURES)} classes at most, not {settings.classes}")
    return list(TEXTURES)[: settings.classes]


def draw_images(name: str, count: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """``count`` images of the texture ``name``: (count, size, size, 3), RGB."""

    def per_image(low: float, high: float, *shape: int) -> Array:
        return rng.uniform(low, high, (count, *(shape or (1, 1)))).astype(np.float32)

    # Coordinates in periods, about an origin in the middle half of the image (that of rings and spirals).
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = axis[None, None, :] - per_image(0.25, 0.75)
    y = axis[None, :, None] - per_image(0.25, 0.75)
    periods = np.exp(per_image(np.log(3.2), np.log(6.0)))
    angle = per_image(-0.2, 0.2)
    u = periods * (np.cos(angle) * x - np.sin(angle) * y)
    v = periods * (np.sin(angle) * x + np.cos(angle) * y)
    value = TEXTURES[name](u, v, rng)
    contrast = per_image(0.12, 0.45) * random_sign(rng, count)
    light = per_image(0.3, 0.7) + per_image(-0.35, 0.35) * x + per_image(-0.35, 0.35) * y
    tint = per_image(0.85, 1.15, 1, 1, 3)
    images = (light + contrast * value)[..., None] * tint
    images += per_image(0.01, 0.08, 1, 1, 1) * rng.standard_normal(images.shape, dtype=np.float32)
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def write_world(spec: DatasetSpec, folder: Path) -> None:
    """Write the set into the empty ``folder``: ``train/<class>/00000.png``, ``test/...``, at last ``manifest.json``."""
    settings = spec.settings
    if settings is None:
        raise UserError(f"data set '{spec.name}' is a real one; only generated sets can be generated")
    counts = {"train": settings.train_per_class, "test": settings.test_per_class}
    names = class_names(settings)
    for split_index, (split, count) in enumerate(counts.items()):
        for class_index, name in enumerate(names):
            # A stream for each class and split: adding classes or images leaves the others' first images as they were.
            rng = np.random.default_rng([settings.seed, split_index, class_index])
            target = folder / spec.splits[split] / name
            target.mkdir(parents=True)
            for number, image in enumerate(draw_images(name, count, settings.image_size, rng)):
                # Level 1 of zlib: noise hardly compresses, and writing is most of the work.
                done, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
                assert done, "OpenCV could not encode a PNG"
                (target / f"{number:05d}.png").write_bytes(data.tobytes())
    manifest = {
        "name": spec.name,
        "digest": dataset_version(spec),
        "classes": names,
        "train": counts["train"] * len(names),
        "test": counts["test"] * len(names),
        "settings": settings.model_dump(mode="json"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
