"""Twelve more families of texture, none of which pretraining sees: the classes of the generated transfer sets.

They follow the rules of `dino.data.generated.textures` (what makes a class survives the augmentation) and share its
signature.
"""

from __future__ import annotations

import numpy as np

from dino.data.generated.textures import TAU, Array, Texture, _noise, _soft, _triangle, _wave

HALF = np.float32(0.5)


def _cells(u: Array, v: Array, scale: float) -> tuple[Array, Array]:
    """Coordinates in [-1/2, 1/2] within the cells of a square lattice."""
    scale32 = np.float32(scale)
    return u * scale32 % 1 - HALF, v * scale32 % 1 - HALF


def _crosses(u: Array, v: Array, rng: np.random.Generator) -> Array:
    x, y = _cells(u, v, 0.8)
    along, across = np.abs(x + y), np.abs(x - y)
    near, far = np.minimum(along, across), np.maximum(along, across)
    return _soft(np.minimum(np.float32(0.16) - near, np.float32(0.6) - far), 12.0)


def _dashes(u: Array, v: Array, rng: np.random.Generator) -> Array:
    shifted = u * HALF + HALF * (np.floor(v) % 2)
    return _soft(np.minimum(np.cos(TAU * (v + HALF)) - np.float32(0.2), np.cos(TAU * shifted) + np.float32(0.4)), 4.0)


def _ovals(u: Array, v: Array, rng: np.random.Generator) -> Array:
    x, y = _cells(u * HALF + HALF * (np.floor(v) % 2), v, 1.0)
    return _soft(np.float32(0.4) - np.sqrt(x * x + y * y), 10.0)


def _moons(u: Array, v: Array, rng: np.random.Generator) -> Array:
    x, y = _cells(u, v, 0.7)
    full = np.float32(0.42) - np.sqrt(x * x + y * y)
    bite = np.sqrt((x - np.float32(0.2)) ** 2 + y * y) - np.float32(0.32)
    return _soft(np.minimum(full, bite), 14.0)


def _stairs(u: Array, v: Array, rng: np.random.Generator) -> Array:
    return _soft(_wave(v * np.float32(0.8) + np.floor(u * np.float32(1.2)) / 4), 2.0)


def _gingham(u: Array, v: Array, rng: np.random.Generator) -> Array:
    return (_soft(_wave(u * HALF), 4.0) + _soft(_wave(v * HALF), 4.0)) * HALF


def _marble(u: Array, v: Array, rng: np.random.Generator) -> Array:
    return _soft(_wave(u * HALF + v * HALF + HALF * _noise(u, rng, (2.0, 0.0), 1.0)), 2.0)


def _hatching(u: Array, v: Array, rng: np.random.Generator) -> Array:
    diagonal = np.maximum(np.cos(TAU * (u + v) * np.float32(0.7)), np.cos(TAU * (u - v) * np.float32(0.7)))
    return _soft(diagonal - np.float32(0.75), 5.0)


TRANSFER_TEXTURES: dict[str, Texture] = {
    "waves": lambda u, v, rng: _soft(_wave(v + np.float32(0.3) * _wave(u / 2)), 2.0),
    "crosses": _crosses,
    "dashes": _dashes,
    "squares-concentric": lambda u, v, rng: _soft(_wave(np.maximum(np.abs(u), np.abs(v))), 2.0),
    "ovals": _ovals,
    "moons": _moons,
    "rhombi-concentric": lambda u, v, rng: _soft(_wave((np.abs(u) + np.abs(v)) * np.float32(0.7)), 2.0),
    "stairs": _stairs,
    "gingham": _gingham,
    "marble": _marble,
    "hatching": _hatching,
    "chevrons": lambda u, v, rng: _soft(_wave(u + np.float32(0.35) * _triangle(v / 2)), 2.0),
}
