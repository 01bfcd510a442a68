"""Generated videos in DAVIS 2017's format: textured objects that move, turn, grow, bend and pass behind one another.

An object is a body and a limb that swings, so that parts of it appear and disappear; a post in front of everything
hides what passes behind it. The camera pans. All objects are seen in the first frame, whose masks are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dino.data.generated.drawing import Image, Sprite, draw_background, draw_sprite, paste, placement
from dino.data.generated.schemas import DavisSettings
from dino.data.generated.textures import TEXTURES
from dino.data.generated.writing import write_jpeg, write_lines, write_manifest, write_mask
from dino.registry import DatasetSpec

RESOLUTION = "480p"
"""The folder's name in DAVIS, whatever size the frames have."""
LEAST_VISIBLE = 0.01
"""Share of the first frame that every object must cover."""
PERIOD = 32
"""Frames of a full swing; a longer video goes on swinging."""


@dataclass(frozen=True)
class Actor:
    """An object: its parts, and how it moves."""

    body: Sprite
    limb: Sprite
    origin: NDArray[np.floating]
    """(2,) x, y of the middle of its path."""
    reach: NDArray[np.floating]
    """(2,) pixels to either side."""
    phase: NDArray[np.floating]
    """(4,) of its movements along x and y, of its size and of the limb, in circles."""
    spin: float
    """Radians a frame."""
    growth: float
    """Relative change of size, to either side."""

    def paint(self, canvas: Image, frame: int) -> NDArray[np.bool_]:
        """Paint it as it is in ``frame``; returns where it is seen."""
        swing = np.sin(2 * np.pi * (frame / PERIOD + self.phase))
        x, y = self.origin + self.reach * swing[:2]
        scale = 1 + self.growth * swing[2]
        angle = self.spin * frame
        size = len(self.body.cover)
        # The limb hangs on the body's edge and swings by 70 degrees to either side.
        direction = angle + 2 * np.pi * self.phase[3] + 1.2 * swing[3]
        distance = 0.45 * size * scale
        end = (x + distance * np.cos(direction), y + distance * np.sin(direction))
        limb = placement(len(self.limb.cover), center=end, angle=direction, scale=scale)
        seen = paste(canvas, self.limb, limb)
        return seen | paste(canvas, self.body, placement(size, center=(x, y), angle=angle, scale=scale))


def draw_video(
    frames: int, height: int, width: int, rng: np.random.Generator, *, objects: int
) -> tuple[list[Image], list[NDArray[np.uint8]]]:
    """A video of so many objects: its frames (H, W, 3) and their masks (H, W) of 0 and the objects' numbers."""
    while True:
        actors = _cast(height, width, rng, objects)
        stage = _Stage.draw(height, width, rng)
        first = stage.shoot(actors, 0)[1]
        shares = np.bincount(first.ravel(), minlength=len(actors) + 1)[1:] / first.size
        if (shares >= LEAST_VISIBLE).all():
            break
    shots = [stage.shoot(actors, frame) for frame in range(frames)]
    return [image for image, _ in shots], [mask for _, mask in shots]


def _cast(height: int, width: int, rng: np.random.Generator, count: int) -> list[Actor]:
    short = min(height, width)
    textures = rng.permutation(len(TEXTURES))[:count]  # no two objects look alike
    actors = []
    for number, texture in enumerate(textures):
        name = list(TEXTURES)[texture]
        size = round(short * rng.uniform(0.36, 0.52))
        # Spread over the frame's width at first, with paths that meet in its middle.
        origin = np.array([width * (number + 1) / (count + 1), height * rng.uniform(0.4, 0.6)])
        actors.append(
            Actor(
                body=draw_sprite(name, size, rng),
                limb=draw_sprite(name, max(8, size // 2), rng, shape="ellipse"),
                origin=origin,
                reach=np.array([width * rng.uniform(0.15, 0.3), height * rng.uniform(0.05, 0.15)]),
                phase=rng.uniform(0, 1, 4),
                spin=rng.uniform(-0.05, 0.05),
                growth=rng.uniform(0.05, 0.25),
            )
        )
    return actors


@dataclass(frozen=True)
class _Stage:
    """The background, larger than a frame, and a post in front of everything."""

    backdrop: Image
    pan: NDArray[np.floating]
    """(2,) pixels a frame, x and y."""
    post: Image
    """(H, w, 3)."""
    post_left: int

    @classmethod
    def draw(cls, height: int, width: int, rng: np.random.Generator) -> _Stage:
        post_width = max(3, round(width * rng.uniform(0.04, 0.08)))
        return cls(
            backdrop=draw_background(2 * height, 2 * width, rng),
            pan=rng.uniform(-0.006, 0.006, 2) * width,
            post=draw_background(height, post_width, rng) // 2,
            post_left=int(rng.uniform(0.1, 0.9) * (width - post_width)),
        )

    def shoot(self, actors: list[Actor], frame: int) -> tuple[Image, NDArray[np.uint8]]:
        height, width = len(self.post), self.backdrop.shape[1] // 2
        margin = np.array([width, height]) / 2
        # To and fro: a long video never leaves the backdrop.
        shift = margin + PERIOD * self.pan * np.sin(frame / PERIOD)
        left, top = np.clip(np.rint(shift), 0, 2 * margin).astype(int)
        image = self.backdrop[top : top + height, left : left + width].copy()
        mask = np.zeros((height, width), np.uint8)
        for number, actor in enumerate(actors, start=1):
            mask[actor.paint(image, frame)] = number
        columns = np.s_[:, self.post_left : self.post_left + self.post.shape[1]]
        image[columns] = self.post
        mask[columns] = 0
        return image, mask


def write_davis(spec: DatasetSpec, folder: Path) -> None:
    """Write the set into the empty ``folder`` as DAVIS 2017 is laid out; ``manifest.json`` comes last."""
    settings = spec.settings
    assert isinstance(settings, DavisSettings)
    lists: dict[str, list[str]] = {}
    objects = 0
    for split_index, split in enumerate(("train", "val")):
        lists[split] = [f"{split}-{number:02d}" for number in range(getattr(settings, split))]
        for number, name in enumerate(lists[split]):
            rng = np.random.default_rng([settings.seed, split_index, number])
            # As many as may be, then fewer down to one, and again.
            count = settings.max_objects - number % settings.max_objects
            images, masks = draw_video(settings.frames, settings.height, settings.width, rng, objects=count)
            pictures = folder / "JPEGImages" / RESOLUTION / name
            annotations = folder / "Annotations" / RESOLUTION / name
            pictures.mkdir(parents=True)
            annotations.mkdir(parents=True)
            for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
                write_jpeg(pictures / f"{index:05d}.jpg", image)
                write_mask(annotations / f"{index:05d}.png", mask)
            objects += count
        write_lines(folder / "ImageSets" / "2017" / f"{split}.txt", lists[split])
    write_manifest(spec, folder, train=settings.train, val=settings.val, frames=settings.frames, objects=objects)
