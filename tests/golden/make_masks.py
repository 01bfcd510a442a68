"""Write `masks.json`: attention maps, their 60 % and 80 % masks and the Jaccard index by the authors' code.

    python tests/golden/make_masks.py --reference DIR    # DIR: a checkout of facebookresearch/dino

`visualize_attention.py` itself is run, on weights (`make_backbone.fill`) and pictures that NumPy's generator defines,
and what it leaves in its variables is kept: maps as products with random vectors, masks patch by patch. The Jaccard
index is counted over all pixels of its upsampled masks, as the author describes it (facebookresearch/dino#54): for each
object the best head, then the mean over the objects.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from make_backbone import authors_backbone, summary
from PIL import Image

CASES: list[dict[str, Any]] = [
    # Square, as in the figures; 170 pixels are ten patches and a rest that is cut off.
    {"weights": "vit_tiny-16", "picture": [120, 200], "image_size": [170, 170], "mass": 0.6},
    {"weights": "vit_tiny-16", "picture": [120, 200], "image_size": [170, 170], "mass": 0.8},
    # The short side, the aspect kept.
    {"weights": "vit_tiny-16", "picture": [120, 200], "image_size": [100], "mass": 0.6},
    {"weights": "vit_small-8", "picture": [90, 64], "image_size": [88], "mass": 0.6},
    {"weights": "vit_small-8", "picture": [90, 64], "image_size": [88, 88], "mass": 0.8},
]
ARCHITECTURES = {"vit_tiny-16": ("vit_tiny", 16), "vit_small-8": ("vit_small", 8)}


def picture(size: list[int], seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) uint8 of blocks in random colours with some noise."""
    generator = np.random.RandomState(seed)
    blocks = generator.randint(0, 256, (size[0] // 10 + 1, size[1] // 10 + 1, 3)).repeat(10, axis=0).repeat(10, axis=1)
    noise = generator.randint(-20, 21, (*size, 3))
    return np.clip(blocks[: size[0], : size[1]] + noise, 0, 255).astype(np.uint8)


def labels(height: int, width: int) -> np.ndarray:
    """A mask of the size of the network's input: three objects, one of them tiny, and a void border around one."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 8 : height // 2, width // 6 : width // 2] = 255
    mask[height // 8 + 3 : height // 2 - 3, width // 6 + 3 : width // 2 - 3] = 7
    mask[height // 2 :, width // 2 :] = 12
    mask[: height // 10, -width // 10 :] = 20
    return mask


def jaccard(masks: np.ndarray, objects: np.ndarray, *, ignore_void: bool) -> float:
    """The index by counting pixels: masks (heads, h, w), objects (h, w)."""
    counted = objects != 255 if ignore_void else np.ones(objects.shape, dtype=bool)
    best = []
    for number in sorted(set(objects.ravel().tolist()) - {0, 255}):
        region = objects == number
        overlaps = [((mask & region)[counted].sum()) / ((mask | region)[counted].sum()) for mask in masks.astype(bool)]
        best.append(max(overlaps))
    return float(np.mean(best))


def authors_maps(reference: Path, case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Attention and masks, (heads, h, w) each, that the authors' script computes for ``case``."""
    arch, patch_size = ARCHITECTURES[case["weights"]]
    network = authors_backbone(reference, case["weights"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.save(network.state_dict(), folder / "weights.pth")
        Image.fromarray(picture(case["picture"])).save(folder / "picture.png")
        sys.argv = [
            "visualize_attention.py",
            *("--arch", arch, "--patch_size", str(patch_size), "--pretrained_weights", str(folder / "weights.pth")),
            *("--image_path", str(folder / "picture.png"), "--image_size", *map(str, case["image_size"])),
            *("--threshold", str(case["mass"]), "--output_dir", str(folder)),
        ]
        left = runpy.run_path(str(reference / "visualize_attention.py"), run_name="__main__")
    return left["attentions"], left["th_attn"]


def _stand_in_for_skimage() -> None:
    """Only their drawing needs it, and the drawing is not looked at."""
    package, reading, measuring = (ModuleType(name) for name in ("skimage", "skimage.io", "skimage.measure"))
    reading.imread = lambda path: np.array(Image.open(path))  # type: ignore[attr-defined]
    measuring.find_contours = lambda *_arguments: []  # type: ignore[attr-defined]
    package.io, package.measure = reading, measuring  # type: ignore[attr-defined]
    sys.modules |= {"skimage": package, "skimage.io": reading, "skimage.measure": measuring}


def main() -> None:
    """Write the golden values beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    reference = parser.parse_args().reference.resolve()
    _stand_in_for_skimage()
    sys.path.insert(0, str(reference))
    results = []
    for case in CASES:
        attention, masks = authors_maps(reference, case)
        step = ARCHITECTURES[case["weights"]][1]
        objects = labels(*masks.shape[1:])
        results.append(
            {
                "case": case,
                "attention": summary(torch.from_numpy(attention[:, ::step, ::step].copy())),
                "masks": ["".join("01"[int(bit)] for bit in mask[::step, ::step].ravel()) for mask in masks],
                "grid": [side // step for side in masks.shape[1:]],
                "jaccard": jaccard(masks, objects, ignore_void=False),
                "jaccard_without_void": jaccard(masks, objects, ignore_void=True),
            }
        )
    target = Path(__file__).with_name("masks.json")
    lines = ",\n".join(json.dumps(result) for result in results)
    target.write_text(
        f'{{"source": "facebookresearch/dino 7c446df, visualize_attention.py", "results": [\n{lines}\n]}}\n'
    )
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
