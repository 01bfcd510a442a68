"""Generated landmarks in Revisited Oxford's and Paris' format: seen well (easy), badly (hard), or hardly (junk).

A landmark is a wall of textured patterns in an arrangement of its own; other walls of the same patterns are the
distractors. Each view puts it through a projection and other light; hard ones are dark, turned, cut or partly hidden.
A query shows it in the middle of other things, with a box around it. Of the last landmark there are no easy views, so
that its queries do not count for ``easy``, as some of the true sets' do not.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dino.data.generated.drawing import Image, draw_background, draw_sprite, paste, placement
from dino.data.generated.schemas import LandmarkSettings
from dino.data.generated.textures import TEXTURES, Array
from dino.data.generated.world import draw_images
from dino.data.generated.writing import write_jpeg, write_manifest
from dino.registry import DatasetSpec

GRADES = ("easy", "hard", "junk")


@dataclass(frozen=True)
class View:
    """How a photograph shows a wall."""

    extent: float
    """Height of the wall in heights of the photograph."""
    offset: Array
    """(2,) of the wall's middle from the photograph's, in widths and heights."""
    turn: float
    """Radians."""
    slant: float
    """How much one edge is longer than the other: a look from the side."""
    light: float
    """Factor of the brightness."""
    hidden: int
    """Objects in front of it."""


def easy_view(rng: np.random.Generator) -> View:
    """Most of the photograph is the wall, nearly upright, in fair light."""
    return View(
        extent=rng.uniform(0.75, 1.1),
        offset=rng.uniform(-0.08, 0.08, 2),
        turn=rng.uniform(-0.1, 0.1),
        slant=rng.uniform(-0.12, 0.12),
        light=rng.uniform(0.8, 1.15),
        hidden=0,
    )


def hard_view(rng: np.random.Generator) -> View:
    """Two of: far away or cut off, turned, dark, partly hidden."""
    trouble = set(rng.permutation(["framing", "turn", "light", "hidden"])[:2].tolist())
    extent, offset = rng.uniform(0.7, 1.0), rng.uniform(-0.1, 0.1, 2)
    if "framing" in trouble and rng.random() < 0.5:
        extent = rng.uniform(0.45, 0.6)
    elif "framing" in trouble:
        extent, offset = rng.uniform(1.3, 1.8), rng.uniform(-0.3, 0.3, 2)
    return View(
        extent=extent,
        offset=offset,
        turn=rng.uniform(0.25, 0.5) * rng.choice([-1, 1]) if "turn" in trouble else rng.uniform(-0.15, 0.15),
        slant=rng.uniform(-0.2, 0.2),
        light=rng.uniform(0.4, 0.6) if "light" in trouble else rng.uniform(0.8, 1.15),
        hidden=2 if "hidden" in trouble else 0,
    )


def junk_view(rng: np.random.Generator) -> View:
    """Tiny at the edge of the photograph."""
    return View(
        extent=rng.uniform(0.12, 0.2),
        offset=rng.choice([-0.42, 0.42], 2),
        turn=rng.uniform(-0.3, 0.3),
        slant=0.0,
        light=rng.uniform(0.4, 1.0),
        hidden=1,
    )


def query_view(rng: np.random.Generator) -> View:
    """A good view with room around it, for the query's box."""
    return View(
        extent=rng.uniform(0.6, 0.8),
        offset=rng.uniform(-0.1, 0.1, 2),
        turn=rng.uniform(-0.08, 0.08),
        slant=rng.uniform(-0.1, 0.1),
        light=rng.uniform(0.85, 1.15),
        hidden=0,
    )


VIEWS = {"easy": easy_view, "hard": hard_view, "junk": junk_view}


def draw_wall(side: int, rng: np.random.Generator) -> Image:
    """A landmark: two materials, one above the other, and three to five patterns on them: (side, side, 3)."""
    names = list(TEXTURES)
    chosen = [names[index] for index in rng.permutation(len(names))[:7]]
    wall = draw_images(chosen[0], 1, side, rng)[0]
    level = int(side * rng.uniform(0.35, 0.65))
    wall[level:] = draw_images(chosen[1], 1, side, rng)[0, level:]
    cells = rng.permutation(9)[: rng.integers(3, 6)]
    for cell, name in zip(cells, chosen[2:], strict=False):
        size = round(side * rng.uniform(0.25, 0.4))
        place = (np.array([cell % 3, cell // 3]) + rng.uniform(0.3, 0.7, 2)) * side / 3
        paste(wall, draw_sprite(name, size, rng), placement(size, center=(float(place[0]), float(place[1]))))
    return wall


def photograph(
    wall: Image, view: View, height: int, width: int, rng: np.random.Generator
) -> tuple[Image, tuple[float, float, float, float]]:
    """The wall as ``view`` shows it, and the box (x0, y0, x1, y1) around it within the photograph."""
    image = draw_background(height, width, rng)
    half = view.extent * height / 2
    left, right = half * (1 + view.slant), half * (1 - view.slant)
    corners = np.array([[-half, -left], [half, -right], [half, right], [-half, left]])
    cosine, sine = np.cos(view.turn), np.sin(view.turn)
    middle = (0.5 + view.offset) * [width, height]
    target = (corners @ np.array([[cosine, sine], [-sine, cosine]]) + middle).astype(np.float32)
    end = len(wall) - 1
    source = np.array([[0, 0], [end, 0], [end, end], [0, end]], np.float32)
    matrix = np.asarray(cv2.getPerspectiveTransform(source, target), np.float64)
    # Shrunk first where it is far away: warping alone would alias.
    color = cv2.warpPerspective(
        _shrunk(wall, 2 * half),
        _rescaled(matrix, wall, 2 * half),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
    )
    share = cv2.warpPerspective(np.ones(wall.shape[:2], np.float32), matrix, (width, height))[..., None]
    image = (image * (1 - share) + color * share).astype(np.uint8)
    for _ in range(view.hidden):
        size = round(height * rng.uniform(0.25, 0.4))
        name = list(TEXTURES)[rng.integers(len(TEXTURES))]
        center = (rng.uniform(0.15, 0.85) * width, rng.uniform(0.2, 0.8) * height)
        paste(image, draw_sprite(name, size, rng), placement(size, center=center, angle=rng.uniform(-3, 3)))
    x0, y0 = np.maximum(target.min(axis=0), 0)
    x1, y1 = np.minimum(target.max(axis=0), [width, height])
    return _developed(image, view.light, rng), (float(x0), float(y0), float(x1), float(y1))


def _side(wall: Image, pixels: float) -> int:
    return int(min(len(wall), max(8, round(pixels))))


def _shrunk(wall: Image, pixels: float) -> Image:
    side = _side(wall, pixels)
    return wall if side == len(wall) else np.asarray(cv2.resize(wall, (side, side), interpolation=cv2.INTER_AREA))


def _rescaled(matrix: Array, wall: Image, pixels: float) -> Array:
    factor = len(wall) / _side(wall, pixels)
    return matrix @ np.diag([factor, factor, 1.0])


def _developed(image: Image, light: float, rng: np.random.Generator) -> Image:
    """Other light, a little tint, noise."""
    tint = rng.normal(1, 0.05, 3)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image * (light * tint) + noise, 0, 255).astype(np.uint8)


def _frame(size: int, rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) of a photograph whose long side is ``size``."""
    short = round(size * rng.uniform(0.65, 0.9))
    return (short, size) if rng.random() < 0.7 else (size, short)


def write_landmarks(spec: DatasetSpec, folder: Path) -> None:
    """Write ``jpg/*.jpg`` and ``gnd_<name>.pkl`` into the empty ``folder``; ``manifest.json`` comes last."""
    settings = spec.settings
    assert isinstance(settings, LandmarkSettings)
    (folder / "jpg").mkdir()
    queries: list[dict[str, Any]] = []
    database: list[tuple[str, int, str]] = []  # name, landmark, grade
    for landmark in range(settings.landmarks):
        rng = np.random.default_rng([settings.seed, 0, landmark])
        wall = draw_wall(2 * settings.size, rng)
        number = 0
        for grade in GRADES:
            shown = "hard" if grade == "easy" and landmark == settings.landmarks - 1 else grade
            for _ in range(getattr(settings, grade)):
                name = f"place{landmark:02d}_{number:06d}"
                image, _ = photograph(wall, VIEWS[shown](rng), *_frame(settings.size, rng), rng)
                write_jpeg(folder / "jpg" / f"{name}.jpg", image)
                database.append((name, landmark, shown))
                number += 1
        for _ in range(settings.queries):
            name = f"place{landmark:02d}_{number:06d}"
            image, box = photograph(wall, query_view(rng), *_frame(settings.size, rng), rng)
            write_jpeg(folder / "jpg" / f"{name}.jpg", image)
            queries.append({"name": name, "landmark": landmark, "bbx": list(box)})
            number += 1
    for number in range(settings.distractors):
        rng = np.random.default_rng([settings.seed, 1, number])
        view = VIEWS["easy" if number % 2 else "hard"](rng)
        image, _ = photograph(draw_wall(2 * settings.size, rng), view, *_frame(settings.size, rng), rng)
        name = f"elsewhere_{number:06d}"
        write_jpeg(folder / "jpg" / f"{name}.jpg", image)
        database.append((name, -1, ""))
    _write_truth(folder / f"gnd_{settings.name}.pkl", settings, queries, database)
    write_manifest(spec, folder, database=len(database), queries=len(queries), landmarks=settings.landmarks)


def _write_truth(
    path: Path, settings: LandmarkSettings, queries: list[dict[str, Any]], database: list[tuple[str, int, str]]
) -> None:
    # In no order that a constant similarity could profit from.
    order = np.random.default_rng([settings.seed, 2]).permutation(len(database))
    listed = [database[index] for index in order]
    truth = []
    for query in queries:
        found = {
            grade: [at for at, (_, place, shown) in enumerate(listed) if (place, shown) == (query["landmark"], grade)]
            for grade in GRADES
        }
        truth.append({"bbx": query["bbx"], **found})
    document = {
        "imlist": [name for name, _, _ in listed],
        "qimlist": [query["name"] for query in queries],
        "gnd": truth,
    }
    path.write_bytes(pickle.dumps(document, protocol=2))
