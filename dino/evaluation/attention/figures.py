"""The pictures of one image (paper.md, C.9): a heat map and a mask a head, overlays, reference points, a montage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dino.evaluation.attention.choices import MEAN, AttentionSettings, patch_of
from dino.evaluation.attention.drawing import (
    MEAN_COLOUR,
    Map,
    Pixels,
    Tile,
    colour,
    colour_table,
    heat_map,
    mark_points,
    mask_picture,
    montage,
    overlay,
    wrapped,
)
from dino.evaluation.attention_maps import CLS, attention_maps, enlarge, keep_mass
from dino.evaluation.pictures import Picture, prepare
from dino.files import atomic_path

if TYPE_CHECKING:
    from dino.models.vit import VisionTransformer


@dataclass(frozen=True)
class Shown:
    """One map of attention that is drawn."""

    name: str
    """``head-3`` or ``mean``."""
    values: Tensor
    """(rows, columns) of patches."""
    tint: tuple[int, int, int]

    def pixels(self, patch_size: int) -> Map:
        """The map at the size of the image."""
        return enlarge(self.values.numpy(), patch_size).astype(np.float32)

    def mask(self, mass: float, patch_size: int) -> NDArray[np.bool_]:
        """The smallest set of patches with ``mass`` of the attention, at the size of the image."""
        kept = keep_mass(self.values.flatten(), mass).view(self.values.shape).numpy()
        return enlarge(kept, patch_size).astype(bool)


def choose_maps(attention: Tensor, settings: AttentionSettings, *, number: int | None = None) -> list[Shown]:
    """What is drawn of the heads' maps (heads, rows, columns): heads one by one, and their mean unless some are named.

    Args:
        attention: The maps.
        settings: Which heads.
        number: That of the reference point, whose colour the mean takes; None for CLS.
    """
    heads = settings.shown_heads(len(attention))
    shown = [Shown(f"head-{head}", attention[head], colour(head)) for head in heads]
    if isinstance(settings.heads, str):
        tint = MEAN_COLOUR if number is None else colour(number)
        shown.append(Shown(MEAN, attention.mean(dim=0), tint))
    return shown


def draw_image(
    backbone: VisionTransformer, image: NDArray[np.uint8], folder: Path, settings: AttentionSettings
) -> dict[str, Any]:
    """Write the pictures of ``image`` (H, W, 3) into ``folder``, and say what they are.

    Raises:
        UnusablePicture: The image is too small or too long, or a reference point is outside it.
        UserError: The network has no such head, or its attention is not finite.
    """
    patch = backbone.patch_size
    picture = prepare(image, image_size=settings.image_size, keep_aspect=settings.keep_aspect, patch_size=patch)
    places = [point.place(picture.original) for point in settings.points]
    rows = [1 + patch_of(place, picture, patch) for place in places] or [CLS]
    maps = attention_maps(backbone, [picture.pixels], rows=rows, device=settings.device, precision=settings.precision)[
        0
    ]
    if places:
        pictures, sheet = _draw_points(picture, maps, places, settings, patch)
    else:
        pictures, sheet = _draw_cls(picture, choose_maps(maps[:, 0], settings), settings, patch)
    pictures["montage"] = montage(sheet)
    for name, pixels in pictures.items():
        save_png(folder / f"{name}.png", pixels)
    return {
        "original": list(picture.original),
        "input": list(picture.pixels.shape[:2]),
        "grid": [side // patch for side in picture.pixels.shape[:2]],
        "query": [str(point) for point in settings.points] or "cls",
        # The rest of each row is what the token gives to CLS (and CLS to itself).
        "mass_on_patches": [[round(float(row), 6) for row in head] for head in maps.sum(dim=(2, 3))],
        "largest": [[round(float(row), 8) for row in head] for head in maps.amax(dim=(2, 3))],
        "pictures": [f"{name}.png" for name in pictures],
    }


def save_png(path: Path, pixels: Pixels) -> None:
    """Write a picture atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def _draw_cls(
    picture: Picture, shown: list[Shown], settings: AttentionSettings, patch: int
) -> tuple[dict[str, Pixels], list[list[Tile | None]]]:
    """Pictures of CLS's attention by name, and the montage's rows: maps above masks, the image at their left."""
    image, table = picture.pixels, colour_table(settings.cmap)
    pictures = {"input": image}
    maps: list[Tile | None] = [Tile(image, "input")]
    masks: list[Tile | None] = [None]
    if settings.overlay:
        heads = [each for each in shown if each.name != MEAN] or shown
        pictures["overlay"] = overlay(image, [(each.pixels(patch), each.tint) for each in heads])
        masks[0] = Tile(pictures["overlay"], "heads in colours")
    for each in shown:
        pictures[each.name] = heat_map(each.pixels(patch), table)
        maps.append(Tile(pictures[each.name], each.name.replace("-", " ")))
        if settings.threshold is not None:
            mask = each.mask(settings.threshold, patch)
            name = f"mask-{each.name}"
            pictures[name] = mask_picture(image, mask, each.tint, contours=settings.contours)
            masks.append(Tile(pictures[name], f"{100 * settings.threshold:g} % of the mass"))
    rows = [maps, masks] if any(tile is not None for tile in masks) else [maps]
    return pictures, rows


def _draw_points(
    picture: Picture, maps: Tensor, places: list[tuple[float, float]], settings: AttentionSettings, patch: int
) -> tuple[dict[str, Pixels], list[list[Tile | None]]]:
    """Pictures of reference points' attention by name, and the montage's rows (Fig. 8)."""
    image, table = picture.pixels, colour_table(settings.cmap)
    height, width = picture.resized
    dots = [(x * width, y * height) for x, y in places]
    marked = mark_points(image, dots)
    pictures = {"input": image, "points": marked}
    if settings.overlay:
        means = [Shown(MEAN, maps[:, number].mean(dim=0), colour(number)) for number in range(len(places))]
        pictures["overlay"] = mark_points(overlay(image, [(each.pixels(patch), each.tint) for each in means]), dots)
    rows: list[list[Tile | None]] = []
    for number in range(len(places)):
        row: list[Tile | None] = []
        for each in choose_maps(maps[:, number], settings, number=number):
            name = f"point-{number + 1}-{each.name}"
            pictures[name] = heat_map(each.pixels(patch), table)
            row.append(Tile(pictures[name], f"point {number + 1}, {each.name.replace('-', ' ')}", colour(number)))
            if settings.threshold is not None:
                mask = each.mask(settings.threshold, patch)
                pictures[f"mask-{name}"] = mask_picture(image, mask, colour(number), contours=settings.contours)
        rows.append(row)
    first = Tile(pictures.get("overlay", marked), "reference points")
    if len(rows[0]) == 1:
        tiles = [tile for row in rows for tile in row if tile is not None]
        return pictures, wrapped([first, *tiles])
    return pictures, [[first if number == 0 else None, *row] for number, row in enumerate(rows)]


def draw_frame(picture: Picture, attention: Tensor, settings: AttentionSettings, patch: int) -> Pixels:
    """One frame of a video: the mean of the chosen heads (heads, rows, columns) in colours, or laid over the frame."""
    heads = settings.shown_heads(len(attention)) or list(range(len(attention)))
    mean = Shown(MEAN, attention[torch.tensor(heads)].mean(dim=0), MEAN_COLOUR)
    if settings.overlay:
        shown = [Shown(f"head-{head}", attention[head], colour(head)) for head in heads]
        shown = [mean] if settings.heads == MEAN else shown
        return overlay(picture.pixels, [(each.pixels(patch), each.tint) for each in shown])
    if settings.contours and settings.threshold is not None:
        return mask_picture(picture.pixels, mean.mask(settings.threshold, patch), mean.tint, contours=True)
    return heat_map(mean.pixels(patch), colour_table(settings.cmap))
