"""A small VOCdevkit of bright rectangles on black, and a network whose heads look at brightness and at darkness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dino.evaluation.checkpoints import Identity
from dino.metrics import CheckpointIdentity

IDENTITY = Identity(
    run_id="run",
    fingerprint="0123456789",
    seed=0,
    checkpoint=CheckpointIdentity(path="c.pth", sha256="ff", key="teacher"),
    model={"arch": "bright"},
)


class Bright(nn.Module):
    """Head 0 attends to bright patches, head 1 to dark ones, and CLS keeps a tenth of it."""

    patch_size, num_heads = 8, 2

    def attention_rows(self, x: Tensor, rows: Sequence[int]) -> Tensor:
        bright = F.avg_pool2d(x.mean(dim=1, keepdim=True), self.patch_size).flatten(1)
        bright = bright - bright.amin(dim=1, keepdim=True) + 1e-6
        dark = bright.amax(dim=1, keepdim=True) - bright + 1e-6
        heads = torch.stack([bright, dark], dim=1)
        return (0.9 * heads / heads.sum(dim=-1, keepdim=True))[:, :, None].expand(-1, -1, len(rows), -1)


def write_scene(
    root: Path,
    name: str,
    size: tuple[int, int],
    objects: dict[int, tuple[int, int, int, int]],
    *,
    bright: int | None = None,
    instances: bool = True,
) -> None:
    """An image of ``size`` with labelled boxes (top, left, bottom, right), white where ``bright`` (default: all)."""
    image, labels = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for number, (top, left, bottom, right) in objects.items():
        labels[top:bottom, left:right] = number
        if number != 255 and bright in (None, number):
            image[top:bottom, left:right] = 255
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "JPEGImages" / f"{name}.png")
    write_mask(root / "SegmentationClass" / f"{name}.png", labels)
    if instances:
        # Instances split each region into a left and a right half.
        halves = labels.copy()
        halves[:, size[1] // 2 :] += np.where((labels[:, size[1] // 2 :] % 255) > 0, 100, 0).astype(np.uint8)
        write_mask(root / "SegmentationObject" / f"{name}.png", halves)


def write_mask(path: Path, labels: np.ndarray) -> None:
    """A palette PNG."""
    mask = Image.fromarray(labels)
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    mask.save(path)


def write_list(root: Path, split: str, names: Sequence[str]) -> None:
    """``ImageSets/Segmentation/<split>.txt``."""
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
