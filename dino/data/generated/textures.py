"""Twenty families of texture: what the classes of the generated world are.

Each function maps coordinates ``u, v`` (n, S, S), in periods of the texture, to values in about [-1, 1]. What makes a
class (a lattice, a direction up to mirror images, rings, spirals) survives crops, flips, colour jitter and greyscale;
what does not (phase, scale, small rotations, light, contrast, tint) is drawn anew for each image by
`dino.data.generated.world`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Texture = Callable[[Array, Array, np.random.Generator], Array]

TAU = np.float32(2 * np.pi)
ROOT3_HALF = np.float32(np.sqrt(3) / 2)


def random_sign(rng: np.random.Generator, count: int) -> Array:
    """(count, 1, 1) of -1 and 1."""
    return (2 * rng.integers(0, 2, (count, 1, 1)) - 1).astype(np.float32)


def _wave(x: Array) -> Array:
    return np.sin(TAU * x)


def _soft(x: Array, sharpness: float = 4.0) -> Array:
    """A step from -1 to 1 about a pixel wide, so that edges do not alias."""
    return np.tanh(np.float32(sharpness) * x)


def _triangle(x: Array) -> Array:
    """Triangular wave of period 1 in [-1, 1]."""
    return 4 * np.abs(x - np.floor(x + np.float32(0.5))) - 1


def _three_waves(u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Plane waves in three directions 120 degrees apart: the hexagonal lattice."""
    w = ROOT3_HALF * v
    return np.cos(TAU * u), np.cos(TAU * (u / 2 + w)), np.cos(TAU * (u / 2 - w))


def _polar(u: Array, v: Array) -> tuple[Array, Array]:
    return np.sqrt(u * u + v * v), np.arctan2(v, u)


def _noise(u: Array, rng: np.random.Generator, cycles: tuple[float, float], width: float) -> Array:
    """Noise of one spatial frequency ring or patch; ``cycles`` of a side along y and x, 0 for isotropic rings."""
    n, side, _ = u.shape
    fy = np.fft.fftfreq(side, 1 / side)[None, :, None]
    fx = np.fft.rfftfreq(side, 1 / side)[None, None, :]
    scale = rng.uniform(0.75, 1.35, (n, 1, 1))
    if cycles[1] == 0:
        gain = np.exp(-(((np.hypot(fy, fx) - cycles[0] * scale) / width) ** 2))
    else:
        gain = np.exp(-(((np.abs(fy) - cycles[0] * scale) / width) ** 2) - (fx / cycles[1]) ** 2)
    spectrum = np.fft.rfft2(rng.standard_normal(u.shape).astype(np.float32)) * gain
    field = np.fft.irfft2(spectrum, s=(side, side))
    return (field / (field.std(axis=(1, 2), keepdims=True) + 1e-6)).astype(np.float32)


def _hexagonal_dots(u: Array, v: Array, rng: np.random.Generator) -> Array:
    a, b, c = _three_waves(u, v)
    return _soft(a + b + c - np.float32(0.6), 2.0)


def _honeycomb(u: Array, v: Array, rng: np.random.Generator) -> Array:
    a, b, c = _three_waves(u * np.float32(0.8), v * np.float32(0.8))
    return _soft(-(a + b + c) - np.float32(0.85), 3.0)


def _triangles(u: Array, v: Array, rng: np.random.Generator) -> Array:
    w = ROOT3_HALF * v
    return _soft(_wave(u / 2) * _wave(u / 4 + w / 2) * _wave(u / 4 - w / 2), 8.0)


def _bricks(u: Array, v: Array, rng: np.random.Generator) -> Array:
    shifted = u / 2 + np.float32(0.5) * (np.floor(v) % 2)
    return _soft(np.maximum(np.cos(TAU * v), np.cos(TAU * shifted) - np.float32(0.05)) - np.float32(0.75), 5.0)


def _plus_signs(u: Array, v: Array, rng: np.random.Generator) -> Array:
    x, y = np.abs(u * np.float32(0.8) % 1 - np.float32(0.5)), np.abs(v * np.float32(0.8) % 1 - np.float32(0.5))
    near, far = np.minimum(x, y), np.maximum(x, y)
    return _soft(np.minimum(np.float32(0.12) - near, np.float32(0.38) - far), 16.0)


def _spiral(u: Array, v: Array, rng: np.random.Generator) -> Array:
    radius, angle = _polar(u, v)
    return _soft(_wave(radius + random_sign(rng, len(u)) * 2 * angle / TAU), 2.0)


def _weave(u: Array, v: Array, rng: np.random.Generator) -> Array:
    over = (np.floor(u) + np.floor(v)) % 2
    return np.where(over > 0, _soft(_wave(2 * u), 1.5), _soft(_wave(2 * v), 1.5))


def _scales(u: Array, v: Array, rng: np.random.Generator) -> Array:
    x = u + np.float32(0.5) * (np.floor(v * 2) % 2)
    x, y = x % 1 - np.float32(0.5), v * 2 % 1
    return _soft(np.sqrt(4 * x * x + y * y) - np.float32(0.8), 5.0)


TEXTURES: dict[str, Texture] = {
    "stripes-horizontal": lambda u, v, rng: _soft(_wave(v), 2.0),
    "checkerboard": lambda u, v, rng: _soft(_wave(u * np.float32(0.6)) * _wave(v * np.float32(0.6)), 4.0),
    "rings": lambda u, v, rng: _soft(_wave(_polar(u, v)[0]), 2.0),
    "dots-hexagonal": _hexagonal_dots,
    "blobs": lambda u, v, rng: _soft(_noise(u, rng, (3.0, 0.0), 1.0), 2.0),
    "stripes-vertical": lambda u, v, rng: _soft(_wave(u), 2.0),
    "stripes-diagonal": lambda u, v, rng: _soft(_wave((u + v) * np.float32(0.7071)), 2.0),
    "diamonds": lambda u, v, rng: _soft(_wave((u + v) / 2) * _wave((u - v) / 2), 4.0),
    "dots-square": lambda u, v, rng: _soft(np.cos(TAU * u) + np.cos(TAU * v) - np.float32(0.6), 2.5),
    "rays": lambda u, v, rng: _soft(np.sin(8 * _polar(u, v)[1]), 1.5),
    "grid": lambda u, v, rng: _soft(np.maximum(np.cos(TAU * u), np.cos(TAU * v)) - np.float32(0.75), 5.0),
    "zigzag": lambda u, v, rng: _soft(_wave(v + np.float32(0.35) * _triangle(u / 2)), 2.0),
    "honeycomb": _honeycomb,
    "triangles": _triangles,
    "bricks": _bricks,
    "plus-signs": _plus_signs,
    "spiral": _spiral,
    "weave": _weave,
    "scales": _scales,
    "fibres": lambda u, v, rng: _soft(_noise(u, rng, (5.0, 1.5), 1.5), 1.5),
}
