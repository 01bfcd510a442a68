"""Generated scenes in VOCdevkit's format: one to four textured objects, their masks, and classification lists.

A class is the texture of an object (`dino.data.generated.textures`); its shape says nothing. Objects cover one another
and the frame cuts them; as in PASCAL VOC a border of void runs around each, and what is hardly seen counts as
*difficult*.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dino.data.generated.drawing import Image, draw_background, draw_sprite, paste, placement
from dino.data.generated.schemas import VocSettings
from dino.data.generated.textures import TEXTURES
from dino.data.generated.writing import write_jpeg, write_lines, write_manifest, write_mask
from dino.errors import UserError
from dino.registry import DatasetSpec

VOID = 255
HARDLY_SEEN = 0.003
"""Share of the frame below which what is left of an object is void, and no object."""
DIFFICULT = 0.02
"""Share of the frame below which an object is difficult."""


@dataclass(frozen=True)
class Scene:
    """An image and what it shows."""

    image: Image
    instances: NDArray[np.uint8]
    """(H, W): 0 background, 1 to n the objects, 255 void."""
    classes: list[int]
    """Class of each object, from 0."""
    difficult: list[bool]

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """(H, W): 0 background, class + 1, 255 void."""
        table = np.full(256, VOID, np.uint8)
        table[: len(self.classes) + 1] = [0, *(number + 1 for number in self.classes)]
        return table[self.instances]


def draw_scene(
    textures: list[str],
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    backgrounds: list[str] | None = None,
    max_objects: int = 4,
) -> Scene:
    """A scene of objects with some of ``textures`` on a background of one of ``backgrounds``."""
    image = draw_background(height, width, rng, textures=backgrounds)
    count = int(rng.integers(1, max_objects + 1))
    short = min(height, width)
    numbers = np.zeros((height, width), np.uint8)
    classes = []
    for number in range(1, count + 1):
        label = int(rng.integers(len(textures)))
        size = max(8, round(short * rng.uniform(0.5, 0.95) / count**0.3))
        center = (rng.uniform(0.15, 0.85) * width, rng.uniform(0.2, 0.8) * height)
        sprite = draw_sprite(textures[label], size, rng)
        numbers[paste(image, sprite, placement(size, center=center, angle=rng.uniform(-0.2, 0.2)))] = number
        classes.append(label)
    return _with_void(image, numbers, classes)


def _with_void(image: Image, numbers: NDArray[np.uint8], classes: list[int]) -> Scene:
    """The scene with its objects numbered anew: those hardly seen and a border around each are void."""
    # VOC's border is 5 of 500 pixels wide, half of it inside.
    reach = max(1, round(min(numbers.shape) / 200))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    border = cv2.dilate(numbers, kernel) != cv2.erode(numbers, kernel)
    share = np.bincount(numbers.ravel(), minlength=len(classes) + 1)[1:] / numbers.size
    inside = np.bincount(numbers[~border], minlength=len(classes) + 1)[1:]
    kept = [index for index in range(len(classes)) if inside[index] and share[index] >= HARDLY_SEEN]
    table = np.full(len(classes) + 1, VOID, np.uint8)
    table[0] = 0
    for new, index in enumerate(kept, start=1):
        table[index + 1] = new
    instances = np.where(border, np.uint8(VOID), table[numbers])
    return Scene(
        image=image,
        instances=instances,
        classes=[classes[index] for index in kept],
        difficult=[bool(share[index] < DIFFICULT) for index in kept],
    )


def write_voc(spec: DatasetSpec, folder: Path) -> None:
    """Write the set into the empty ``folder`` as VOCdevkit keeps a year; ``manifest.json`` comes last."""
    settings = spec.settings
    assert isinstance(settings, VocSettings)
    if settings.classes >= len(TEXTURES):
        raise UserError(f"generated scenes have {len(TEXTURES) - 1} classes at most, not {settings.classes}")
    names = list(TEXTURES)[: settings.classes]
    backgrounds = list(TEXTURES)[settings.classes :]
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations"):
        (folder / part).mkdir()
    lists: dict[str, list[str]] = {}
    scenes: dict[str, Scene] = {}
    for split_index, split in enumerate(("train", "val", "test")):
        lists[split] = [f"{len(scenes) + number + 1:06d}" for number in range(getattr(settings, split))]
        for number, name in enumerate(lists[split]):
            rng = np.random.default_rng([settings.seed, split_index, number])
            scene = draw_scene(
                names,
                settings.height,
                settings.width,
                rng,
                backgrounds=backgrounds,
                max_objects=settings.max_objects,
            )
            scenes[name] = scene
            write_jpeg(folder / "JPEGImages" / f"{name}.jpg", scene.image)
            (folder / "Annotations" / f"{name}.xml").write_text(_annotation(name, scene, names), encoding="utf-8")
            if split != "test":
                write_mask(folder / "SegmentationObject" / f"{name}.png", scene.instances)
                write_mask(folder / "SegmentationClass" / f"{name}.png", scene.class_map)
    lists["trainval"] = lists["train"] + lists["val"]
    _write_lists(folder, lists, scenes, names)
    counts = {split: getattr(settings, split) for split in ("train", "val", "test")}
    write_manifest(spec, folder, classes=names, **counts)


def _write_lists(folder: Path, lists: dict[str, list[str]], scenes: dict[str, Scene], names: list[str]) -> None:
    for split, images in lists.items():
        if split != "test":
            write_lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", images)
        write_lines(folder / "ImageSets" / "Main" / f"{split}.txt", images)
        for label, name in enumerate(names):
            lines = [f"{image} {_presence(scenes[image], label):2d}" for image in images]
            write_lines(folder / "ImageSets" / "Main" / f"{name}_{split}.txt", lines)


def _presence(scene: Scene, label: int) -> int:
    """1 where an object of the class is seen, 0 where all of them are difficult, -1 where there is none."""
    hard = [difficult for found, difficult in zip(scene.classes, scene.difficult, strict=True) if found == label]
    return -1 if not hard else int(not all(hard))


def _annotation(name: str, scene: Scene, names: list[str]) -> str:
    """VOC's XML of one image."""
    height, width = scene.instances.shape
    lines = [
        "<annotation>",
        f"<filename>{name}.jpg</filename>",
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "<segmented>1</segmented>",
    ]
    for number, (label, difficult) in enumerate(zip(scene.classes, scene.difficult, strict=True), start=1):
        rows, columns = np.nonzero(scene.instances == number)
        # VOC counts pixels from 1.
        corners = {"xmin": columns.min(), "ymin": rows.min(), "xmax": columns.max(), "ymax": rows.max()}
        box = "".join(f"<{corner}>{value + 1}</{corner}>" for corner, value in corners.items())
        lines.append(
            f"<object><name>{names[label]}</name><difficult>{int(difficult)}</difficult><bndbox>{box}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])
