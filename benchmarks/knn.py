"""k-NN of 20,000 test images by 100,000 training images (384 features, 1,000 classes) for k = 10, 20, 100 and 200.

    python benchmarks/knn.py [--reference DIR] [--threads N] [--device cuda] [--scale 0.1]

With --reference (a checkout of facebookresearch/dino) the authors' ``knn_classifier`` runs on the same features, once
for each k as their script does, in turns with ours; their one-hot table has 1,000 classes in both. Peak memory is that
of a fresh process for each of the two, features included. Bars: at least 3x, at most 2 GiB. On a shared machine the
ratio of CPU time is the steadier one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

KS = [10, 20, 100, 200]
CLASSES, WIDTH = 1000, 384
TRAIN, TEST = 100_000, 20_000
TEMPERATURE = 0.07


def draw(scale: float, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised noisy class centres: train features and labels, test features and labels."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    split = []
    for count in (round(TRAIN * scale), round(TEST * scale)):
        labels = torch.randint(CLASSES, (count,), generator=generator)
        features = torch.randn(count, WIDTH, generator=generator).mul_(4)
        for part, own in zip(features.split(10_000), labels.split(10_000), strict=True):
            part.add_(centres[own])
        features.div_(torch.linalg.vector_norm(features, dim=1, keepdim=True))
        split += [features.to(device), labels.to(device)]
    return split[0], split[1], split[2], split[3]


def run_ours(data: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[int, float]:
    """Top-1 for each k, in one pass."""
    from dino.evaluation.scoring.votes import score_knn

    return {k: s.top1 for k, s in score_knn(*data, ks=KS, temperature=TEMPERATURE, normalised=True).items()}


def run_authors(data: tuple[Tensor, Tensor, Tensor, Tensor], reference: Path) -> dict[int, float]:
    """Top-1 for each k, a call for each."""
    sys.path.insert(0, str(reference))
    classify = importlib.import_module("eval_knn").knn_classifier
    train, train_labels, test, test_labels = data
    top1 = {}
    for k in KS:
        top1[k], _ = classify(train, train_labels, test, test_labels, k, TEMPERATURE, num_classes=CLASSES)
    return top1


def measure(options: argparse.Namespace, who: str) -> dict[str, object]:
    """One timed run in this process: seconds, peak memory, top-1."""
    torch.set_num_threads(options.threads)
    data = draw(options.scale, options.device)
    synchronise(options.device)
    started, cpu_started = time.perf_counter(), time.process_time()
    top1 = run_ours(data) if who == "ours" else run_authors(data, options.reference)
    synchronise(options.device)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if options.device != "cpu":
        peak["device"] = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "top1": top1}


def synchronise(device: str) -> None:
    """Wait for the GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Print times, memory and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of facebookresearch/dino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="part of both sets, for a quick look")
    parser.add_argument("--rounds", type=int, default=1, help="turns; the best of each counts")
    parser.add_argument("--only", choices=["ours", "authors"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options, options.only)))
        return
    who = ["ours", "authors"] if options.reference else ["ours"]
    best: dict[str, dict] = {}
    for _ in range(options.rounds):
        for name in who:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            if name not in best or result["seconds"] < best[name]["seconds"]:
                best[name] = result
    shape = f"{round(TRAIN * options.scale)} x {round(TEST * options.scale)} x {WIDTH}, k = {KS}"
    print(f"k-NN, {shape}, {options.device}, {options.threads} threads")
    for name, result in best.items():
        peak = ", ".join(f"{where} {mib:.0f} MiB" for where, mib in result["peak_mib"].items())
        print(f"  {name:8} {result['seconds']:8.2f} s ({result['cpu_seconds']:.2f} s of CPU)   peak {peak}")
        print(f"           top-1 {list(result['top1'].values())} %")
    if options.reference:
        ratio, cpu_ratio = (best["authors"][unit] / best["ours"][unit] for unit in ("seconds", "cpu_seconds"))
        print(f"  ratio    {ratio:.2f}x, of CPU time {cpu_ratio:.2f}x")
        print(f"  same accuracies: {'yes' if best['authors']['top1'] == best['ours']['top1'] else 'NO'}")


if __name__ == "__main__":
    main()
