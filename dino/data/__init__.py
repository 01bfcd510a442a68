"""Data sets, multi-crop augmentation, loaders and the generated world."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino.data.datasets import ImageSet, resolve_dataset
    from dino.data.evaluation import EvalBatch, EvalImages
    from dino.data.loader import PretrainLoader, build_pretrain_loader

_HOME = {
    "EvalBatch": "evaluation",
    "EvalImages": "evaluation",
    "ImageSet": "datasets",
    "PretrainLoader": "loader",
    "build_pretrain_loader": "loader",
    "resolve_dataset": "datasets",
}

__all__ = ["EvalBatch", "EvalImages", "ImageSet", "PretrainLoader", "build_pretrain_loader", "resolve_dataset"]


def __getattr__(name: str) -> Any:
    # On first use: `dino generate` needs neither torch nor the loaders.
    if name in _HOME:
        return getattr(importlib.import_module(f"dino.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dino.data' has no attribute '{name}'")
