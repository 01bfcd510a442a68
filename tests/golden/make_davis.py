"""Write `davis.json`: label propagation by the authors' code through a video that NumPy's generator defines.

    python tests/golden/make_davis.py --reference DIR    # DIR: a checkout of facebookresearch/dino

Weights (`make_backbone.fill`) and frames are functions of a seed alone, so a test makes the same ones without the
authors' code. Of each frame's soft labels a few entries are stored and products with random vectors, and of its mask
the pixels of each object. `propagate` runs their whole script on a folder of frames, for tests beside their code.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

CASES: dict[str, dict[str, Any]] = {
    "wide": {"arch": "vit_tiny", "patch_size": 16, "size": (96, 128), "frames": 11, "objects": 2, "radius": 12},
    "high": {"arch": "vit_tiny", "patch_size": 8, "size": (192, 96), "frames": 5, "objects": 1, "radius": 3},
}
"""Windows wider than the grid with a full context, and narrower ones on a grid of several tiles."""
STEMS = "{:05d}"


def video(
    size: tuple[int, int], frames: int, objects: int, seed: int = 0
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Textured rectangles that move over a textured background: frames (H, W, 3) RGB and masks (H, W)."""
    rng = np.random.RandomState(seed)
    height, width = size

    def texture(rows: int, columns: int) -> NDArray[np.uint8]:
        coarse = rng.randint(0, 256, (rows // 8 + 1, columns // 8 + 1, 3))
        return coarse.repeat(8, 0).repeat(8, 1)[:rows, :columns].astype(np.uint8)

    background = texture(height + 2 * frames, width + 2 * frames)
    sprites = [texture(height // 3, width // 4) for _ in range(objects)]
    starts = [((number + 1) * height // (objects + 2), number * width // (objects + 1)) for number in range(objects)]
    images, masks = [], []
    for t in range(frames):
        image, mask = background[t : t + height, t : t + width].copy(), np.zeros(size, np.uint8)
        for number, (sprite, (top, left)) in enumerate(zip(sprites, starts, strict=True), start=1):
            rows, columns = sprite.shape[:2]
            place = np.s_[top : top + rows, left + 2 * t * number : left + 2 * t * number + columns]
            image[place], mask[place] = sprite[:, : image[place].shape[1]], number
        images.append(np.clip(image + rng.randint(-9, 10, image.shape), 0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks


def backbone_maker() -> ModuleType:
    """`make_backbone.py`, for its weights and summaries."""
    path = Path(__file__).with_name("make_backbone.py")
    spec = importlib.util.spec_from_file_location("make_backbone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def authors_script(reference: Path, settings: SimpleNamespace) -> Any:
    """Their module with its global arguments."""
    sys.path.insert(0, str(reference))
    script: Any = importlib.import_module("eval_video_segmentation")
    script.args = settings
    script.tqdm = lambda items, *_, **__: items
    return script


def authors_network(reference: Path, arch: str, patch_size: int) -> nn.Module:
    """Their backbone with `fill`'s weights."""
    sys.path.insert(0, str(reference))
    network = getattr(importlib.import_module("vision_transformer"), arch)(patch_size=patch_size, num_classes=0)
    backbone_maker().fill(network, seed=0)
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.eval()


def propagate(
    reference: Path, network: nn.Module, folder: Path, masks: Path, output: Path, *, short_side: int, radius: int = 12
) -> list[Tensor]:
    """Run their script's functions on ``folder``'s frames; masks go to ``output``; returns the soft labels.

    Args:
        reference: Their checkout.
        network: Their backbone.
        folder: ``<sequence>`` with ``*.jpg``.
        masks: ``<sequence>`` with the first mask, ``00000.png``.
        output: Masks are written to ``output/<sequence>``.
        short_side: Pixels; 480 in their script, which has it as a default argument of two functions.
        radius: Patches.
    """
    patch_size = network.patch_embed.patch_size
    settings = SimpleNamespace(
        output_dir=str(output), patch_size=patch_size, n_last_frames=7, size_mask_neighborhood=radius, topk=5
    )
    script = authors_script(reference, settings)
    script.read_frame.__defaults__ = ([short_side],)
    frames = script.read_frame_list(str(folder))
    first, original = script.read_seg(str(masks / "00000.png"), patch_size, [short_side])
    soft: list[Tensor] = []
    inner, to_gpu = script.label_propagation, torch.Tensor.cuda
    if next(network.parameters()).device.type == "cpu":
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment, method-assign]

    def keep(*arguments: Any) -> Any:
        result = inner(*arguments)
        soft.append(result[0][0].cpu().clone())
        return result

    script.label_propagation = keep
    try:
        palette = np.zeros((256, 3), np.uint8)
        script.eval_video_tracking_davis(settings, network, frames, str(folder), first, original, palette)
    finally:
        script.label_propagation, torch.Tensor.cuda = inner, to_gpu  # type: ignore[method-assign]
    return soft


def authors_result(reference: Path, case: dict[str, Any], folder: Path) -> tuple[list[Tensor], list[NDArray[np.uint8]]]:
    """Soft labels (C, h, w) and masks of their script on a case's video.

    The frames reach it as they are: what JPEG makes of them is no part of the golden values.
    """
    images, masks = video(case["size"], case["frames"], case["objects"])
    (folder / "frames").mkdir()
    (folder / "masks").mkdir()
    arrays = {}
    for number, image in enumerate(images):
        path = folder / "frames" / f"{STEMS.format(number)}.jpg"
        path.touch()
        arrays[str(path)] = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "masks" / "00000.png"), masks[0])
    network = authors_network(reference, case["arch"], case["patch_size"])
    read, cv2.imread = cv2.imread, lambda path: arrays[path].copy()  # type: ignore[assignment, misc]
    try:
        soft = propagate(
            reference, network, folder / "frames", folder / "masks", folder, short_side=96, radius=case["radius"]
        )
    finally:
        cv2.imread = read  # type: ignore[misc]
    paths = [folder / "frames" / f"{STEMS.format(number)}.png" for number in range(1, case["frames"])]
    return soft, [np.asarray(Image.open(path)) for path in paths]


def main() -> None:
    """Write the golden values beside this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    reference = parser.parse_args().reference
    summary = backbone_maker().summary
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as temporary:
            soft, masks = authors_result(reference, case, Path(temporary))
        pixels = [np.bincount(mask.ravel(), minlength=case["objects"] + 1).tolist() for mask in masks]
        results[name] = {"soft": [summary(labels) for labels in soft], "pixels": pixels}
    target = Path(__file__).with_name("davis.json")
    document = {"source": "facebookresearch/dino 7c446df, eval_video_segmentation.py", "cases": results}
    target.write_text(json.dumps(document) + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
