"""Regenerate `linear.json`: the authors' training and validation of a linear classifier on a frozen network.

    python tests/golden/make_linear.py --reference DIR

DIR is a checkout of facebookresearch/dino. Their `train` and `validate_network` run on the CPU, on a ViT-T/16 whose
weights `make_backbone.fill` defines and on images, labels and initial classifiers that seeds define. Where they join
[CLS] and mean patch token, the two alternate; the stored weights have the columns of one before those of the other.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CASES: dict[str, dict[str, Any]] = {
    "l1": {"blocks": 1, "patches": False},
    "l2": {"blocks": 2, "patches": False},
    "l4": {"blocks": 4, "patches": False},
    "pool": {"blocks": 1, "patches": True},
}
CLASSES, EPOCHS, BATCH, BATCHES, SIZE = 20, 3, 8, 3, 64
BASE_LR = 1.0
"""Of batch 256; large, so that few steps change much."""
WIDTH = 192
INITIAL_STD = 0.01


def draw_batches(*, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of normally distributed images (B, 3, SIZE, SIZE), shifted by class, and their labels."""
    generator = np.random.RandomState(seed)
    shifts = np.random.RandomState(100).standard_normal((CLASSES, 3, 1, 1))
    batches = []
    for _ in range(BATCHES):
        labels = generator.randint(CLASSES, size=BATCH)
        images = generator.standard_normal((BATCH, 3, SIZE, SIZE)) + shifts[labels]
        batches.append((torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels)))
    return batches


def draw_weight(case: str) -> Tensor:
    """The classifier's weights at the start, (CLASSES, D), columns in our order."""
    columns = WIDTH * (CASES[case]["blocks"] + CASES[case]["patches"])
    noise = np.random.RandomState(3).standard_normal((CLASSES, columns)) * INITIAL_STD
    return torch.from_numpy(noise.astype(np.float32))


def summary(value: Tensor) -> list[float]:
    """Sixteen entries spread over ``value``, then four products with random vectors, scaled by 1/sqrt(size)."""
    flat = value.detach().double().flatten().numpy()
    directions = np.random.RandomState(7).standard_normal((4, flat.size))
    entries = flat[np.linspace(0, flat.size - 1, 16).astype(int)]
    return [round(float(each), 7) for each in [*entries, *(directions @ flat / flat.size**0.5)]]


class Wrapped(nn.Module):
    """What their validation expects of a distributed module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Tensor) -> Tensor:
        """The module's output."""
        return self.module(features)


def interleave(weight: Tensor, *, back: bool = False) -> Tensor:
    """Columns of two halves to alternating ones; ``back`` the other way."""
    shape = (len(weight), -1, 2) if back else (len(weight), 2, WIDTH)
    return weight.view(shape).transpose(1, 2).reshape(len(weight), -1)


def authors_course(reference: Path, case: str) -> dict[str, Any]:
    """Losses and accuracies of every epoch, and the classifier at the end."""
    sys.path.insert(0, str(reference))
    script = importlib.import_module("eval_linear")
    vits = importlib.import_module("vision_transformer")
    fill = importlib.import_module("make_backbone").fill
    script.args = argparse.Namespace(arch="vit_tiny")
    torch.Tensor.cuda = lambda tensor, **_: tensor  # type: ignore[method-assign, assignment]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    network = vits.vit_tiny(patch_size=16, num_classes=0)
    with torch.no_grad():
        fill(network, seed=0)
    network.eval()
    blocks, patches = CASES[case]["blocks"], CASES[case]["patches"]
    weight = draw_weight(case)
    classifier = script.LinearClassifier(weight.shape[1], CLASSES)
    with torch.no_grad():
        classifier.linear.weight.copy_(interleave(weight) if patches else weight)
    optimizer = torch.optim.SGD(classifier.parameters(), BASE_LR * BATCH / 256, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=0)
    epochs = []
    for epoch in range(EPOCHS):
        wrapped = Wrapped(classifier)
        trained = script.train(network, wrapped, optimizer, draw_batches(seed=epoch), epoch, blocks, patches)
        scheduler.step()
        tested = script.validate_network(draw_batches(seed=50), network, wrapped, blocks, patches)
        epochs.append({"train_loss": trained["loss"], **tested})
    weight = classifier.linear.weight.detach()
    return {
        "epochs": epochs,
        "weight": summary(interleave(weight, back=True) if patches else weight),
        "bias": [round(float(each), 7) for each in classifier.linear.bias],
    }


def main() -> None:
    """Write the golden values beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    reference = parser.parse_args().reference
    golden = {case: authors_course(reference, case) for case in CASES}
    text = re.sub(r"\[[^\]{}]*\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(golden, indent=1))
    Path(__file__).with_name("linear.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
