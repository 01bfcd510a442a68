"""Pictures of attention: heat maps, coloured overlays, masks with contours, reference points, montages."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dino.errors import UserError, suggest

Pixels = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Map = NDArray[np.float32]
"""(h, w), not normalised."""

OVERLAY_THRESHOLD = 0.2
"""Of attention scaled to [0, 1]: below it an overlay shows the image alone (the author, facebookresearch/dino#92)."""

# Bright, told apart with any colour vision (Okabe and Ito), repeated for more heads than that.
COLOURS = [
    (0, 158, 235),
    (235, 80, 20),
    (245, 205, 40),
    (0, 175, 125),
    (215, 120, 180),
    (120, 90, 220),
    (120, 200, 60),
    (200, 30, 90),
]
SHARP = 360
"""Pixels of the short side from which numbers on a picture can be read."""
MEAN_COLOUR = (240, 60, 150)


def colour(number: int) -> tuple[int, int, int]:
    """The colour of head or reference point ``number``."""
    return COLOURS[number % len(COLOURS)]


def colour_table(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a colour map of matplotlib's, (256, 3).

    Raises:
        UserError: There is none of that name.
    """
    import matplotlib as mpl

    if name not in mpl.colormaps:
        raise UserError(f"no colour map '{name}'{suggest(name, mpl.colormaps)} (try inferno, viridis or gray)")
    return (mpl.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def scaled(values: Map) -> Map:
    """``values`` with its smallest at 0 and its largest at 1; a constant map becomes 0."""
    low, high = float(values.min()), float(values.max())
    return np.zeros_like(values) if high <= low else (values - low) / (high - low)


def heat_map(values: Map, table: NDArray[np.uint8]) -> Pixels:
    """``values`` in colours, from its own smallest to its own largest value."""
    return table[(scaled(values) * 255).round().astype(np.uint8)]


def overlay(image: Pixels, maps: Sequence[tuple[Map, tuple[int, int, int]]], *, strength: float = 0.75) -> Pixels:
    """The image under its maps, each in one colour as strong as the square root of its attention (Fig. 3)."""
    result = image.astype(np.float32)
    for values, tint in maps:
        share = scaled(values)
        weight = (strength * np.sqrt(share) * (share > OVERLAY_THRESHOLD))[..., None].astype(np.float32)
        result += weight * (np.asarray(tint, dtype=np.float32) - result)
    return result.round().astype(np.uint8)


def mask_picture(
    image: Pixels, mask: NDArray[np.bool_], tint: tuple[int, int, int], *, contours: bool, strength: float = 0.5
) -> Pixels:
    """The image tinted where ``mask`` (h, w) is set, dimmed elsewhere; with a line around it where asked for."""
    weight = strength * mask[..., None]
    tinted = image * (1 - weight) + weight * np.asarray(tint)
    result = np.where(mask[..., None], tinted, 0.6 * image).round().astype(np.uint8)
    if contours:
        # A border of background closes the line where the mask touches the picture's edge.
        padded = np.pad(mask.astype(np.uint8), 1)
        lines, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(-1, -1))
        cv2.drawContours(result, lines, -1, tint, max(1, round(min(mask.shape) / 240)))
    return result


def mark_points(image: Pixels, points: Sequence[tuple[float, float]]) -> Pixels:
    """Numbered dots at ``points`` (x, y in pixels of ``image``), each in its own colour (Fig. 8).

    A small image is enlarged first, so that the numbers can be read.
    """
    times = math.ceil(SHARP / min(image.shape[:2]))
    image = image.repeat(times, axis=0).repeat(times, axis=1)
    points = [(times * x, times * y) for x, y in points]
    radius = max(4, round(min(image.shape[:2]) / 36))
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for number, (x, y) in enumerate(points):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=colour(number), outline=(255, 255, 255), width=max(1, radius // 6))
        draw.text((x, y), str(number + 1), fill=(0, 0, 0), font=font(round(1.5 * radius)), anchor="mm")
    return np.asarray(picture)


@dataclass(frozen=True)
class Tile:
    """One picture of a montage."""

    pixels: Pixels
    caption: str
    frame: tuple[int, int, int] | None = None
    """Colour of a frame around it."""


def montage(rows: Sequence[Sequence[Tile | None]], *, height: int = 240, gap: int = 8) -> Pixels:
    """Pictures in rows, ``height`` pixels each, with captions below; None leaves a place free."""
    first = next(tile for row in rows for tile in row if tile is not None)
    width = max(1, round(height * first.pixels.shape[1] / first.pixels.shape[0]))
    text = max(12, height // 16)
    line = round(1.6 * text)
    columns = max(len(row) for row in rows)
    size = (columns * (width + gap) + gap, len(rows) * (height + line + gap) + gap)
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for row_number, row in enumerate(rows):
        for column, tile in enumerate(row):
            if tile is None:
                continue
            left, top = gap + column * (width + gap), gap + row_number * (height + line + gap)
            # Enlarged patches stay squares; reduced ones are averaged.
            way = Image.Resampling.NEAREST if tile.pixels.shape[0] < height else Image.Resampling.BOX
            sheet.paste(Image.fromarray(tile.pixels).resize((width, height), way), (left, top))
            if tile.frame is not None:
                draw.rectangle((left - 3, top - 3, left + width + 2, top + height + 2), outline=tile.frame, width=4)
            middle = (left + width / 2, top + height + line / 2)
            draw.text(middle, tile.caption, fill=(30, 30, 30), font=font(text), anchor="mm")
    return np.asarray(sheet)


@functools.lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The face that ships with matplotlib: the same letters on every machine."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def wrapped(tiles: Sequence[Tile], *, columns: int | None = None) -> list[list[Tile | None]]:
    """Tiles in rows of ``columns`` (default: about twice as many columns as rows)."""
    columns = columns or max(1, math.ceil(math.sqrt(2 * len(tiles))))
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
