"""Regenerate `knn.json`: the authors' `knn_classifier` on seeded features.

    python tests/golden/make_knn.py --reference DIR

DIR is a checkout of facebookresearch/dino. Only the seeds, shapes and resulting accuracies are stored: the test draws
the same features again. (Their chunking needs at least 100 test images; paper.md, C.1 says that any chunking is
equivalent.)
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CASES: list[dict[str, Any]] = [
    {"seed": 0, "train": 1000, "test": 100, "dim": 16, "classes": 10, "noise": 2.0, "temperature": 0.07},
    {"seed": 1, "train": 3001, "test": 257, "dim": 33, "classes": 37, "noise": 2.5, "temperature": 0.07},
    {"seed": 2, "train": 211, "test": 199, "dim": 8, "classes": 5, "noise": 1.5, "temperature": 0.2},
    {"seed": 3, "train": 6000, "test": 101, "dim": 64, "classes": 300, "noise": 1.5, "temperature": 0.04},
]
KS = [1, 3, 10, 20, 100, 200]


def draw(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy class centres: (train features, train labels, test features, test labels), every class in both sets."""
    generator = torch.Generator().manual_seed(case["seed"])
    centres = torch.randn(case["classes"], case["dim"], generator=generator)

    def split(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % case["classes"]
        labels = labels[torch.randperm(count, generator=generator)]
        return centres[labels] + case["noise"] * torch.randn(count, case["dim"], generator=generator), labels

    return *split(case["train"]), *split(case["test"])


def authors_classifier(folder: Path) -> Any:
    """Their function; the file's other imports are modules beside it."""
    sys.path.insert(0, str(folder))
    return importlib.import_module("eval_knn").knn_classifier


def main() -> None:
    """Write the golden values beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    classify = authors_classifier(parser.parse_args().reference)
    results = []
    for case in CASES:
        train, train_labels, test, test_labels = draw(case)
        train, test = (torch.nn.functional.normalize(features, dim=1) for features in (train, test))
        accuracy = {}
        for k in KS:
            top1, top5 = classify(
                train, train_labels, test, test_labels, k, case["temperature"], num_classes=case["classes"]
            )
            accuracy[k] = [top1, top5]
        results.append({"case": case, "accuracy": accuracy})
    target = Path(__file__).with_name("knn.json")
    lines = ",\n".join(json.dumps(result) for result in results)
    target.write_text(f'{{"source": "facebookresearch/dino 7c446df, eval_knn.py", "results": [\n{lines}\n]}}\n')
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
