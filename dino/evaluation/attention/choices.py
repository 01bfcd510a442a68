"""What is drawn of a network's attention: which heads, whose attention, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dino.errors import UserError
from dino.evaluation.pictures import Picture, UnusablePicture

if TYPE_CHECKING:
    import torch

ALL, MEAN = "all", "mean"


@dataclass(frozen=True)
class Point:
    """A reference point: pixels of the original image, or shares of its width and height."""

    x: float
    y: float
    relative: bool

    def __str__(self) -> str:
        return f"{100 * self.x:g}%,{100 * self.y:g}%" if self.relative else f"{self.x:g},{self.y:g}"

    def place(self, original: tuple[int, int]) -> tuple[float, float]:
        """Its x and y as shares of the width and height of an image of ``original`` (height, width) pixels.

        Raises:
            UnusablePicture: The point is outside.
        """
        height, width = original
        x, y = (self.x, self.y) if self.relative else (self.x / width, self.y / height)
        if not (0 <= x < 1 and 0 <= y < 1):
            raise UnusablePicture(f"the point {self} is outside its {width} x {height} pixels (width x height)")
        return x, y


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """How `dino attention` draws."""

    device: torch.device
    image_size: int = 480
    keep_aspect: bool = False
    threshold: float | None = 0.6
    """Share of the attention that a mask holds; None draws no masks."""
    heads: str | tuple[int, ...] = ALL
    """``all`` (each head and their mean), ``mean``, or the numbers of some."""
    points: tuple[Point, ...] = ()
    """Reference points whose attention is drawn instead of CLS's (Fig. 8)."""
    overlay: bool = False
    contours: bool = False
    cmap: str = "inferno"
    precision: str = "fp32"

    def shown_heads(self, count: int) -> list[int]:
        """The heads that are drawn one by one.

        Raises:
            UserError: The network has no such head.
        """
        if isinstance(self.heads, str):
            return list(range(count)) if self.heads == ALL else []
        wrong = [head for head in self.heads if not 0 <= head < count]
        if wrong:
            raise UserError(f"--heads: no head {wrong[0]}; this network has {count} (0 to {count - 1})")
        return list(self.heads)


def parse_points(texts: Sequence[str]) -> tuple[Point, ...]:
    """Points from ``x,y`` in pixels or ``x%,y%``.

    Raises:
        UserError: One is written otherwise.
    """
    points = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        try:
            numbers = [float(part.removesuffix("%")) for part in parts]
        except ValueError:
            numbers = []
        percent = {part.endswith("%") for part in parts}
        if len(numbers) != 2 or len(percent) != 1:
            raise UserError(f"--points {text}: write x,y in pixels of the image, or in percent: 120,80 or 50%,25%")
        relative = percent == {True}
        x, y = (number / 100 for number in numbers) if relative else numbers
        points.append(Point(x, y, relative))
    return tuple(points)


def parse_heads(text: str) -> str | tuple[int, ...]:
    """``all``, ``mean`` or numbers such as ``0,3``.

    Raises:
        UserError: It is something else.
    """
    if text in (ALL, MEAN):
        return text
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"--heads {text}: write all, mean, or numbers such as 0,3") from None


def patch_of(place: tuple[float, float], picture: Picture, patch_size: int) -> int:
    """The patch at ``place`` (shares of width and height), counted row by row; those cut off belong to the last."""
    rows, columns = (side // patch_size for side in picture.pixels.shape[:2])
    x, y = place
    column = min(int(x * picture.resized[1]) // patch_size, columns - 1)
    row = min(int(y * picture.resized[0]) // patch_size, rows - 1)
    return row * columns + column
