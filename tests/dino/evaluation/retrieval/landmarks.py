"""A tiny data set in the format of Revisited Oxford and Paris: each landmark is a colour."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = [(220, 40, 40), (40, 200, 60), (50, 60, 220)]
SIZES = [(40, 30), (30, 40), (48, 36)]
VIEWS = 6


def write_landmarks(folder: Path, *, name: str = "roxford5k", **changes: Any) -> Path:
    """Three landmarks with six views each, two queries each, and four images of nothing; ``changes`` are the truth's.

    Of a landmark's views the first two are easy, the next two hard, the others junk. The first query has no easy view.
    """
    generator = np.random.default_rng(3)
    (folder / "jpg").mkdir(parents=True)

    def write(stem: str, colour: tuple[int, ...], size: tuple[int, int]) -> None:
        noise = generator.integers(-30, 30, (size[1], size[0], 3))
        ramp = np.linspace(0.6, 1.0, size[0])[None, :, None]
        pixels = np.clip(np.array(colour) * ramp + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "jpg" / f"{stem}.jpg", quality=95)

    database, queries, entries = [], [], []
    for number, colour in enumerate(COLOURS):
        views = list(range(len(database), len(database) + VIEWS))
        for view in range(VIEWS):
            database.append(f"landmark{number}_{view}")
            write(database[-1], colour, SIZES[view % len(SIZES)])
        for query in range(2):
            queries.append(f"query{number}_{query}")
            write(queries[-1], colour, (60, 40))
            easy = [] if (number, query) == (0, 0) else views[:2]
            entries.append({"bbx": [10.5, 5, 50, 35.5], "easy": easy, "hard": views[2:4], "junk": views[4:]})
    for number in range(4):
        database.append(f"nothing_{number}")
        write(database[-1], (128, 128, 128), SIZES[number % len(SIZES)])
    truth = {"imlist": database, "qimlist": queries, "gnd": entries, **changes}
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    return folder


def rewrite_truth(folder: Path, change: Any, *, name: str = "roxford5k") -> None:
    """Apply ``change`` to the truth of `write_landmarks`."""
    path = folder / f"gnd_{name}.pkl"
    truth = pickle.loads(path.read_bytes())
    change(truth)
    path.write_bytes(pickle.dumps(truth, protocol=2))
