"""Backbones, projection heads, the student-teacher pair and the reading of weights (paper.md, A.1-A.3).

The names below are imported on first use, so that `import dino.models` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino.models.backbone import build_backbone
    from dino.models.head import build_head
    from dino.models.network import Network, build_networks
    from dino.models.weights import load_backbone

_HOMES = {
    "build_backbone": "dino.models.backbone",
    "build_head": "dino.models.head",
    "Network": "dino.models.network",
    "build_networks": "dino.models.network",
    "load_backbone": "dino.models.weights",
}

__all__ = ["Network", "build_backbone", "build_head", "build_networks", "load_backbone"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
