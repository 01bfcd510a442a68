"""Multi-crop augmentation: ours against the authors' `DataAugmentationDINO`, on the same decoded images.

    python benchmarks/augmentation.py --reference ~/dino [--data FOLDER] [--images 16] [--threads 1]
    python benchmarks/augmentation.py --reference ~/dino --sizes 32 16 --locals 2 --image-size 32   # the laptop scale

Both start from decoded images and end at normalised view tensors; decoding is timed apart. The two take turns and the
best of `--repeats` counts, so that other load on the machine hits both. Without `--data`, photograph-like images of
500 x 375 pixels are made.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dino.config import RunConfig
from dino.data.augment import MultiCrop
from dino.data.decode import decode
from dino.data.folder import EXTENSIONS
from dino.data.loader import cut_views


class Decoded:
    """Images in memory, in the form that `cut_views` reads."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def read_or_neighbour(self, index: int) -> tuple[np.ndarray, list[str]]:
        return self.images[index], []


def photograph_like(count: int, height: int, width: int) -> list[np.ndarray]:
    """Noise whose spectrum falls with frequency as photographs' does: smooth areas, edges, all colours."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    images = []
    for _ in range(count):
        noise = rng.standard_normal((3, height, width))
        field = np.fft.irfft2(np.fft.rfft2(noise) / frequency**1.2, s=(height, width))
        field /= 4 * field.std(axis=(1, 2), keepdims=True)
        images.append((np.clip(field + 0.5, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy())
    return images


def load_images(options: argparse.Namespace) -> list[np.ndarray]:
    """The images to augment."""
    if options.data is None:
        height, width = (options.image_size,) * 2 if options.image_size else (375, 500)
        return photograph_like(options.images, height, width)
    files = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not files:
        sys.exit(f"{options.data}: no images")
    return [decode(path) for path in files[: options.images]]


def reference_augmentation(checkout: Path, config: RunConfig) -> Any:
    """The authors' augmentation with this run's sizes and scales put in (theirs are constants)."""
    sys.path.insert(0, str(checkout))
    # Their argument parser asks torch.hub for model names at import time.
    hub_list, torch.hub.list = torch.hub.list, lambda *args, **kwargs: []
    try:
        module = importlib.import_module("main_dino")
    finally:
        torch.hub.list = hub_list
        sys.path.remove(str(checkout))
    reference = module.DataAugmentationDINO(config.global_crop_scale, config.local_crop_scale, config.num_local_crops)
    for transform, size in (
        (reference.global_transfo1, config.global_crop_size),
        (reference.global_transfo2, config.global_crop_size),
        (reference.local_transfo, config.local_crop_size),
    ):
        transform.transforms[0].size = (size, size)
    return reference


def best_of(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest time of each, in seconds; they take turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of facebookresearch/dino")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images to use instead of made ones")
    parser.add_argument("--images", type=int, default=16, help="images of a batch (default 16)")
    parser.add_argument("--image-size", type=int, help="side of the made images (default 500 x 375)")
    parser.add_argument("--sizes", type=int, nargs=2, default=(224, 96), metavar=("GLOBAL", "LOCAL"))
    parser.add_argument("--locals", type=int, default=8, help="local crops an image (default 8)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="where ours does the photometric part, e.g. cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random.seed(0)
    torch.manual_seed(0)

    images = load_images(options)
    batch = len(images)
    config = RunConfig(
        patch_size=4,
        global_crop_size=options.sizes[0],
        local_crop_size=options.sizes[1],
        num_local_crops=options.locals,
    )
    augment = MultiCrop(config)
    generator = torch.Generator().manual_seed(0)
    device = torch.device(options.device)
    uniform = len({image.shape for image in images}) == 1
    stacked = (
        torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]).contiguous() if uniform else None
    )
    pixels = None if stacked is None else stacked.to(device)

    def ours() -> object:
        crops = augment.draw_crops(batch, generator)
        colors = augment.draw_colors(batch, generator)
        if (pixels is not None and options.sizes[0] <= 64) or (pixels is not None and device.type != "cpu"):
            views = augment.from_images(pixels, crops, colors)
        else:
            cut, _ = cut_views(Decoded(images), list(range(batch)), crops)  # type: ignore[arg-type]
            views = augment.from_views([view.to(device, non_blocking=True) for view in cut], colors)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return views

    functions: dict[str, Callable[[], object]] = {"ours": ours}
    if options.reference is not None:
        reference = reference_augmentation(options.reference, config)
        # ImageFolder hands them Pillow images, so that is where their clock starts.
        pillow = [Image.fromarray(image) for image in images]
        functions["authors"] = lambda: [reference(image) for image in pillow]
    for function in functions.values():
        function()
    seconds = best_of(functions, options.repeats)
    print(
        f"{batch} images, 2x{options.sizes[0]} + {options.locals}x{options.sizes[1]}, {options.threads} thread(s), "
        f"{device}, torch {torch.__version__}"
    )
    for name, value in seconds.items():
        print(f"{name:8s} {batch / value:9.1f} im/s  {1000 * value / batch:8.3f} ms an image")
    if "authors" in seconds:
        print(f"ratio    {seconds['authors'] / seconds['ours']:9.2f} x")


if __name__ == "__main__":
    main()
