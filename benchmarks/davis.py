"""Video object segmentation of an 854x480 video of two objects (ViT-T/16, 67 frames as DAVIS 2017 val has on average).

    python benchmarks/davis.py [--reference DIR] [--official DIR] [--threads N] [--arch vit_small --patch-size 8]

From JPEG files to masks as PNG files, with random weights, in a fresh process for each; a frame's time is the whole
sequence's over its frames. With --reference (a checkout of facebookresearch/dino) the authors' functions run on the
same files and weights, in turns with ours. With --official (a checkout of davisvideochallenge/davis2017-evaluation)
its evaluation scores the same masks as ours. Bars: at least 3x the authors' frames per second for ViT-T/16, at most
3 GiB for ViT-S/8, and a scorer of at least 3x.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

from dino.evaluation.davis.masks import read_mask, write_mask

SIZE = (480, 854)
OBJECTS = 2
SEQUENCE = "video"


def maker() -> ModuleType:
    """`tests/golden/make_davis.py`: the video, and how the authors' code is called."""
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "make_davis.py"
    spec = importlib.util.spec_from_file_location("make_davis", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(folder: Path, frames: int, arch: str, patch_size: int) -> None:
    """Write the video, its masks, other masks to score, and weights in the authors' layout."""
    from dino.models import load_backbone

    images, masks = maker().video(SIZE, frames, OBJECTS)
    pictures = folder / "JPEGImages" / "480p" / SEQUENCE
    pictures.mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        cv2.imwrite(str(pictures / f"{number:05d}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_mask(folder / "Annotations" / "480p" / SEQUENCE / f"{number:05d}.png", mask)
        write_mask(folder / "shifted" / SEQUENCE / f"{number:05d}.png", np.roll(mask, (3, 5), (0, 1)))
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text(f"{SEQUENCE}\n")
    backbone, _ = load_backbone("random", arch=arch, patch_size=patch_size)
    torch.save(backbone.state_dict(), folder / "weights.pth")


def segment_ours(options: argparse.Namespace, folder: Path) -> Callable[[], None]:
    """Our propagation, ready to run."""
    from dino.evaluation.davis.dataset import find_videos
    from dino.evaluation.davis.segment import SegmentSettings, segment
    from dino.evaluation.runtime import reuse_freed_memory
    from dino.models import load_backbone

    reuse_freed_memory()
    device = torch.device(options.device)
    backbone, _ = load_backbone(folder / "weights.pth", arch=options.arch, patch_size=options.patch_size)
    backbone = backbone.to(device)
    (video,) = find_videos(str(folder)).videos

    def run() -> None:
        first, code = video.first_mask()
        with ThreadPoolExecutor(1) as writer:
            for stem, mask in segment(backbone, video, first, code, SegmentSettings(device=device)):
                writer.submit(write_mask, folder / "ours" / SEQUENCE / f"{stem}.png", mask)

    return run


def segment_authors(options: argparse.Namespace, folder: Path) -> Callable[[], None]:
    """The authors' functions, ready to run."""
    sys.path.insert(0, str(options.reference))
    make = maker()
    network = make.authors_network(options.reference, options.arch, options.patch_size)
    network.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    network.to(options.device)
    frames, masks = (folder / kind / "480p" / SEQUENCE for kind in ("JPEGImages", "Annotations"))

    def run() -> None:
        make.propagate(options.reference, network, frames, masks, folder / "authors", short_side=480)

    return run


def score_ours(options: argparse.Namespace, folder: Path) -> Callable[[], list[float]]:
    """Our J and F, ready to run on one thread."""
    from dino.evaluation.davis.dataset import find_videos
    from dino.evaluation.davis.protocol import score_results

    def run() -> list[float]:
        scores = score_results(str(folder / "shifted"), find_videos(str(folder)), workers=1).scores
        return [value for score in scores for value in (score.j.mean, score.f.mean)]

    return run


def score_official(options: argparse.Namespace, folder: Path) -> Callable[[], list[float]]:
    """The official J and F, ready to run."""
    sys.path.insert(0, str(options.official))
    if importlib.util.find_spec("skimage") is None:
        from dino.evaluation.davis.scorer import disk

        # The one function that it takes from scikit-image, which this project does without.
        morphology = types.ModuleType("skimage.morphology")
        morphology.disk = lambda radius: disk(int(radius))  # type: ignore[attr-defined]
        sys.modules.update({"skimage": types.ModuleType("skimage"), "skimage.morphology": morphology})
    evaluation = importlib.import_module("davis2017.evaluation")

    def run() -> list[float]:
        official = evaluation.DAVISEvaluation(str(folder), "semi-supervised", "val")
        result = official.evaluate(str(folder / "shifted"))
        return [value for pair in zip(result["J"]["M"], result["F"]["M"], strict=True) for value in pair]

    return run


JOBS: dict[str, Callable[[argparse.Namespace, Path], Callable[[], object]]] = {
    "ours": segment_ours,
    "authors": segment_authors,
    "our scorer": score_ours,
    "official scorer": score_official,
}


def measure(options: argparse.Namespace, who: str, folder: Path) -> dict[str, object]:
    """One timed run in this process: seconds, peak memory and what it returned."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    job = JOBS[who](options, folder)
    started, cpu_started = time.perf_counter(), time.process_time()
    found = job()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if options.device != "cpu":
        peak["device"] = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "found": found}


def compare(best: dict[str, dict], ours: str, theirs: str) -> None:
    """Print the ratios."""
    ratio, cpu_ratio = (best[theirs][unit] / best[ours][unit] for unit in ("seconds", "cpu_seconds"))
    print(f"  {theirs} / {ours}: {ratio:.2f}x, of CPU time {cpu_ratio:.2f}x")


def main() -> None:
    """Print times, memory and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of facebookresearch/dino")
    parser.add_argument("--official", type=Path, metavar="DIR", help="one of davis2017-evaluation")
    parser.add_argument("--arch", default="vit_tiny")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--frames", type=int, default=67)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=1, help="turns; the best of each counts")
    parser.add_argument("--only", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print("\n" + json.dumps(measure(options, options.only, options.folder)))
        return
    who = ["ours", *(["authors"] if options.reference else []), "our scorer"]
    who += ["official scorer"] if options.official else []
    best: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary), options.frames, options.arch, options.patch_size)
        for _ in range(options.rounds):
            for name in who:
                command = [sys.executable, __file__, *sys.argv[1:], "--only", name, "--folder", temporary]
                call = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                result = json.loads(call.stdout.splitlines()[-1])
                if name not in best or result["seconds"] < best[name]["seconds"]:
                    best[name] = result
        same = None
        if options.reference:
            names = sorted(Path(temporary, "ours").glob("*/*.png"))
            pairs = [(path, Path(temporary, "authors", SEQUENCE, path.name)) for path in names]
            same = np.mean([(read_mask(a) == read_mask(b)).mean() for a, b in pairs])
    print(f"{options.arch}/{options.patch_size}, {options.frames} frames of 854x480, {options.device}, ", end="")
    print(f"{options.threads} threads")
    for name, result in best.items():
        peak = ", ".join(f"{where} {mib:.0f} MiB" for where, mib in result["peak_mib"].items())
        rate = options.frames / result["seconds"]
        per_frame = 1000 * result["cpu_seconds"] / options.frames
        print(f"  {name:16} {rate:7.2f} frames/s ({per_frame:.1f} ms of CPU a frame)   peak {peak}")
    if options.reference:
        compare(best, "ours", "authors")
        print(f"  pixels with the same label: {100 * same:.3f} %")
    if options.official:
        compare(best, "our scorer", "official scorer")
        ours, official = (best[name]["found"] for name in ("our scorer", "official scorer"))
        print(f"  same scores: {'yes' if np.allclose(ours, official, atol=1e-9) else 'NO'}")


if __name__ == "__main__":
    main()
