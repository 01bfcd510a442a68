"""External weights that a row may evaluate instead of a pretraining: the authors' released ones, DeiT's."""

from __future__ import annotations

from typing import Any


def known_weights() -> dict[str, Any]:
    """What is known of each, by name (`dino.released.RELEASED`)."""
    try:
        from dino.released import RELEASED
    except ImportError:
        return {}
    return dict(RELEASED)
