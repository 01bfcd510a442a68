"""What a grid of learning rates costs beside one: training steps of linear probes on ViT-S/16 at 224 pixels.

    python benchmarks/linear.py [--reference DIR] [--threads N] [--device cuda] [--batch-size 128] [--rates 8]

A step is the frozen forward pass of a batch and the update of all probes on it: five features (App. F), 1,000 classes.
With one learning rate there is a probe for each feature; with 8 there are 16, since each has a trial probe that does
not see the held-out images. Bar: at most 1.5x. With --reference (a checkout of facebookresearch/dino) their network and
classifier (one feature, one learning rate) take the same steps, in turns with ours; a grid is as many of their runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dino.evaluation.linear.features import JointFeature
from dino.evaluation.linear.probes import ProbeBank
from dino.models import build_backbone
from dino.running.process import configure_process

CLASSES = 1000
BAR = 1.5


def our_step(rates: int, *, arch: str, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """A step of all probes with ``rates`` learning rates."""
    torch.manual_seed(0)
    joint = JointFeature(build_backbone(arch=arch, patch_size=16, img_size=224).to(device).eval())
    bank = ProbeBank(list(joint.columns.values()), classes=CLASSES, lrs=[0.1] * rates, seed=0, device=device)
    held_out = torch.zeros(4096, dtype=torch.bool, device=device)

    def step(images: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            features = joint(images)
        bank.step(features, targets, held_out[: len(images)], factor=1.0)

    return step


def authors_step(reference: Path, *, arch: str, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """A step of their classifier on the last four blocks."""
    sys.path.insert(0, str(reference))
    network = getattr(importlib.import_module("vision_transformer"), arch)(patch_size=16, num_classes=0)
    network = network.to(device).eval()
    classifier = importlib.import_module("eval_linear").LinearClassifier(4 * network.embed_dim, CLASSES).to(device)
    optimizer = torch.optim.SGD(classifier.parameters(), 0.1, momentum=0.9)

    def step(images: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            blocks = network.get_intermediate_layers(images, 4)
            features = torch.cat([tokens[:, 0] for tokens in blocks], dim=-1)
        loss = nn.functional.cross_entropy(classifier(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    """Print the seconds of a step and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of facebookresearch/dino")
    parser.add_argument("--arch", default="vit_small")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="turns; the best of each counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    configure_process(device)
    steps = {
        f"ours, {rates} rate(s)": our_step(rates, arch=options.arch, device=device) for rates in (1, options.rates)
    }
    if options.reference:
        steps["authors, 1 rate"] = authors_step(options.reference, arch=options.arch, device=device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.batch_size, 3, 224, 224, generator=generator).to(device)
    targets = torch.randint(CLASSES, (options.batch_size,), generator=generator).to(device)
    best = {name: (float("inf"), float("inf")) for name in steps}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter(), time.process_time()
            step(images, targets)
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent = time.perf_counter() - started[0], time.process_time() - started[1]
            if turn:  # the first warms up
                best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    print(
        f"linear probes, {options.arch}/16, batch {options.batch_size}, {CLASSES} classes, {options.device}, "
        f"{options.threads} thread(s), torch {torch.__version__}; best of {options.rounds}"
    )
    for name, (seconds, cpu) in best.items():
        print(f"  {name:16}  {seconds:8.3f} s a step  ({cpu:.3f} s of CPU)")
    one, grid = (best[f"ours, {rates} rate(s)"] for rates in (1, options.rates))
    print(f"  {options.rates} rates cost {grid[0] / one[0]:.2f}x one (of CPU time {grid[1] / one[1]:.2f}x); bar {BAR}x")
    if options.reference:
        theirs = best["authors, 1 rate"]
        runs = [options.rates * theirs[unit] / grid[unit] for unit in (0, 1)]
        print(f"  {options.rates} runs of the authors' cost {runs[0]:.1f}x our one (of CPU time {runs[1]:.1f}x)")


if __name__ == "__main__":
    main()
