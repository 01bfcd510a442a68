"""Write `backbone.json`: what the authors' networks give for weights and images that NumPy's generator defines.

    python tests/golden/make_backbone.py --reference DIR    # DIR: a checkout of facebookresearch/dino

Weights and images are functions of names, shapes and a seed alone, so a test makes the same ones without the authors'
code. For each output a few entries are stored, and its products with random unit-variance vectors, to which every
entry contributes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CASES: dict[str, dict[str, Any]] = {
    "vit_tiny-16": {"arch": "vit_tiny", "patch_size": 16, "sizes": [(224, 224), (480, 480), (480, 832)]},
    "vit_small-8": {"arch": "vit_small", "patch_size": 8, "sizes": [(224, 224), (320, 208), (480, 480)]},
}
HEADS: dict[str, dict[str, Any]] = {
    "trained gain": {"norm_last_layer": False, "layers": 3, "batch_norm": False},
    "frozen gain": {"norm_last_layer": True, "layers": 3, "batch_norm": False},
    "one layer": {"norm_last_layer": True, "layers": 1, "batch_norm": False},
    "batch norm": {"norm_last_layer": False, "layers": 4, "batch_norm": True},
}
HEAD_SIZES = {"in_dim": 192, "out_dim": 1000, "hidden_dim": 256, "bottleneck_dim": 64}
LAST_BLOCKS = 4


def fill(module: nn.Module, seed: int) -> None:
    """Weights by NumPy, in the order of the sorted names; spread enough for attention that is far from uniform."""
    generator = np.random.RandomState(seed)
    for name, value in sorted(module.state_dict().items()):
        if not value.is_floating_point() or name.endswith("running_mean") or name.endswith("running_var"):
            continue
        noise = torch.from_numpy(generator.standard_normal(tuple(value.shape)).astype(np.float32))
        if name.endswith(("pos_embed", "cls_token")):
            noise *= 0.5
        elif value.dim() == 1 or name.endswith("weight_g"):
            is_gain = ("norm" in name and name.endswith("weight")) or name.endswith("weight_g")
            noise = noise * 0.1 + (1.0 if is_gain else 0.0)
        else:
            noise /= value[0].numel() ** 0.5
        value.copy_(noise)


def image(size: tuple[int, int], seed: int = 0) -> Tensor:
    """One normally distributed image (1, 3, H, W)."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((1, 3, *size)).astype(np.float32))


def head_input() -> Tensor:
    """(16, in_dim) normally distributed features."""
    return torch.from_numpy(np.random.RandomState(1).standard_normal((16, HEAD_SIZES["in_dim"])).astype(np.float32))


def summary(value: Tensor) -> dict[str, list[float]]:
    """Sixteen entries spread over ``value`` and four products with random vectors, each scaled by 1/sqrt(size)."""
    flat = value.detach().double().flatten().numpy()
    directions = np.random.RandomState(7).standard_normal((4, flat.size))
    entries = flat[np.linspace(0, flat.size - 1, 16).astype(int)]
    return {
        "entries": [round(float(entry), 7) for entry in entries],
        "products": [round(float(product), 7) for product in directions @ flat / flat.size**0.5],
    }


@torch.no_grad()
def authors_outputs(authors: nn.Module, size: tuple[int, int]) -> dict[str, Tensor]:
    """CLS feature, last blocks and CLS attention to the patches of one image, from the authors' network."""
    x = image(size)
    outputs = {"cls": authors(x), "attention": authors.get_last_selfattention(x)[:, :, 0, 1:]}
    for index, tokens in enumerate(authors.get_intermediate_layers(x, LAST_BLOCKS)):
        outputs[f"block{index - LAST_BLOCKS}"] = tokens
    return outputs


def authors_backbone(reference: Path, case: str) -> nn.Module:
    """The authors' backbone of ``case`` with `fill`'s weights, in eval mode."""
    module = _authors_module(reference)
    network = getattr(module, CASES[case]["arch"])(patch_size=CASES[case]["patch_size"])
    fill(network, seed=0)
    return network.eval()


def authors_head(reference: Path, case: str) -> nn.Module:
    """The authors' head of ``case`` with `fill`'s weights, in train mode (BN uses the batch)."""
    options = HEADS[case]
    head = _authors_module(reference).DINOHead(
        HEAD_SIZES["in_dim"],
        HEAD_SIZES["out_dim"],
        use_bn=options["batch_norm"],
        norm_last_layer=options["norm_last_layer"],
        nlayers=options["layers"],
        hidden_dim=HEAD_SIZES["hidden_dim"],
        bottleneck_dim=HEAD_SIZES["bottleneck_dim"],
    )
    fill(head, seed=2)
    return head.train()


def _authors_module(reference: Path) -> Any:
    sys.path.insert(0, str(reference))
    try:
        import vision_transformer
    finally:
        sys.path.remove(str(reference))
    return vision_transformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="checkout of facebookresearch/dino")
    reference = parser.parse_args().reference
    golden: dict[str, dict[str, Any]] = {"backbones": {}, "heads": {}}
    for case, settings in CASES.items():
        network = authors_backbone(reference, case)
        golden["backbones"][case] = {
            f"{size[0]}x{size[1]}": {name: summary(value) for name, value in authors_outputs(network, size).items()}
            for size in settings["sizes"]
        }
    for case in HEADS:
        golden["heads"][case] = summary(authors_head(reference, case)(head_input()))
    text = re.sub(r"\[[^\]]*\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(golden, indent=1))
    Path(__file__).with_name("backbone.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
