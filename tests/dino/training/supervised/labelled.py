"""Labelled images small enough for tests: classes of one colour each, as an ImageFolder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dino.training.supervised.recipe import LabelledSettings

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def write_images(folder: Path, *, train: int = 8, test: int = 3, size: int = 16) -> Path:
    """``train`` and ``test`` images a class, noisy, under ``folder``/<split>/<class>/."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for name, colour in COLOURS.items():
            for number in range(count):
                pixels = np.clip(np.array(colour) + generator.normal(0, 20, (size, size, 3)), 0, 255)
                path = folder / split / name / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def tiny_settings(**changes: Any) -> LabelledSettings:
    """Seconds of training; no augmentation that hides a class's colour."""
    values: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 8,
        "lr": 0.2,
        "warmup_epochs": 1,
        "image_size": 16,
        "resize": 16,
        "rand_augment": "",
        "color_jitter": 0.0,
        "random_erasing": 0.0,
        "drop_path": 0.1,
        "model_ema": 0.5,
        "head_init_scale": 1.0,
    }
    return LabelledSettings(**{**values, **changes})
