"""Released weights: what there is, where it comes from, where it lies. ``dino fetch`` brings it (`dino.fetching`).

The addresses are those of the authors' README and ``hubconf.py``, of DeiT's repository and of torchvision. DeiT's and
torchvision's file names carry the first eight digits of their SHA-256; of the authors' own files no hash is published.
Imports no torch: planning reads it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dino.errors import UserError, suggest

DINO_URL = "https://dl.fbaipublicfiles.com/dino"
DEIT_URL = "https://dl.fbaipublicfiles.com/deit"
TORCHVISION_URL = "https://download.pytorch.org/models"

AUTHORS = "the paper's authors, https://github.com/facebookresearch/dino"
DEIT = "DeiT's authors, https://github.com/facebookresearch/deit"


@dataclass(frozen=True)
class ReleasedWeights:
    """One file of weights."""

    title: str
    url: str
    arch: str
    patch_size: int = 16
    """Pixels; without meaning for a ResNet."""
    layout: Literal["backbone", "full"] = "backbone"
    """``full``: student and teacher with their heads, as `load_backbone` calls the authors' layout."""
    source: str = AUTHORS
    sha256: str = ""
    """Its first digits, as many as are published."""

    @property
    def file_name(self) -> str:
        """The publishers' own."""
        return self.url.rsplit("/", 1)[1]

    @property
    def default(self) -> bool:
        """Whether ``dino fetch all`` brings it: full checkpoints are large, and no study reads them."""
        return self.layout == "backbone"


def _authors(title: str, folder: str, file: str, arch: str, patch_size: int, **more: str) -> ReleasedWeights:
    return ReleasedWeights(title, f"{DINO_URL}/{folder}/{file}.pth", arch, patch_size, **more)  # type: ignore[arg-type]


def _pair(name: str, title: str, folder: str, arch: str, patch_size: int) -> dict[str, ReleasedWeights]:
    """The backbone alone and the full checkpoint."""
    return {
        name: _authors(title, folder, folder, arch, patch_size),
        f"{name}_full": _authors(
            f"{title}, full checkpoint", folder, f"{folder}_full_checkpoint", arch, patch_size, layout="full"
        ),
    }


RELEASED: dict[str, ReleasedWeights] = {
    **_pair("dino_vits16", "DINO ViT-S/16, 800 epochs", "dino_deitsmall16_pretrain", "vit_small", 16),
    **_pair("dino_vits8", "DINO ViT-S/8, 800 epochs", "dino_deitsmall8_pretrain", "vit_small", 8),
    **_pair("dino_vitb16", "DINO ViT-B/16, 400 epochs", "dino_vitbase16_pretrain", "vit_base", 16),
    **_pair("dino_vitb8", "DINO ViT-B/8, 300 epochs", "dino_vitbase8_pretrain", "vit_base", 8),
    **_pair("dino_resnet50", "DINO ResNet-50, 800 epochs", "dino_resnet50_pretrain", "resnet50", 16),
    # The network of the paper's pictures of attention (paper.md, A.8), and that of Table 3's landmarks.
    "dino_vits8_300ep": _authors(
        "DINO ViT-S/8, 300 epochs",
        "dino_deitsmall8_300ep_pretrain",
        "dino_deitsmall8_300ep_pretrain",
        "vit_small",
        8,
    ),
    "dino_vits16_gldv2": _authors(
        "DINO ViT-S/16 on Google Landmarks v2",
        "dino_vitsmall16_googlelandmark_pretrain",
        "dino_vitsmall16_googlelandmark_pretrain",
        "vit_small",
        16,
    ),
    "dino_resnet50_100ep_full": _authors(
        "DINO ResNet-50, the README's 100 epochs",
        "example_runs_logs",
        "dino_rn50_checkpoint",
        "resnet50",
        16,
        layout="full",
    ),
    "deit_small": ReleasedWeights(
        "supervised ViT-S/16 (DeiT)",
        f"{DEIT_URL}/deit_small_patch16_224-cd65a155.pth",
        "vit_small",
        source=DEIT,
        sha256="cd65a155",
    ),
    "deit_base": ReleasedWeights(
        "supervised ViT-B/16 (DeiT)",
        f"{DEIT_URL}/deit_base_patch16_224-b5f2ef4d.pth",
        "vit_base",
        source=DEIT,
        sha256="b5f2ef4d",
    ),
    "resnet50_supervised": ReleasedWeights(
        "supervised ResNet-50 (torchvision)",
        f"{TORCHVISION_URL}/resnet50-0676ba61.pth",
        "resnet50",
        source="torchvision, https://pytorch.org/vision/stable/models.html",
        sha256="0676ba61",
    ),
}


def find_weights(name: str) -> ReleasedWeights:
    """What is known of the weights ``name``.

    Raises:
        UserError: Nothing; the nearest name is suggested.
    """
    if name not in RELEASED:
        raise UserError(f"no released weights '{name}'{suggest(name, RELEASED)} (there are: {', '.join(RELEASED)})")
    return RELEASED[name]


def weights_folder() -> Path:
    """Where released weights lie: ``DINO_WEIGHTS``, else ``results/weights``."""
    return Path(os.environ.get("DINO_WEIGHTS") or Path("results") / "weights")


def weights_file(name: str) -> Path:
    """Where the weights ``name`` lie or will lie.

    Raises:
        UserError: There are none of that name.
    """
    return weights_folder() / find_weights(name).file_name


def missing_weights_reason(name: str) -> str | None:
    """Why the weights cannot be used and what to do about it, in one sentence; None if they can.

    Raises:
        UserError: There are none of that name.
    """
    file = weights_file(name)
    return None if file.is_file() else f"weights '{name}' ({file}) are not here: `dino fetch {name}`"
