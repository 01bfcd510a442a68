"""Regenerate `training.json`: the authors' loss, centre, schedules, clipping and one training step.

    python tests/golden/make_training.py --reference DIR

DIR is a checkout of facebookresearch/dino. Logits and gradients are drawn from seeds, so that only seeds, shapes and
results are stored; the tests draw them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LOSS_CASES: list[dict[str, Any]] = [
    {"name": "multi-crop, warming up", "views": 6, "batch": 5, "k": 300, "start": 0.04, "end": 0.07, "warmup": 3},
    {"name": "two globals", "views": 2, "batch": 4, "k": 64, "start": 0.04, "end": 0.04, "warmup": 0},
    {"name": "ten locals", "views": 12, "batch": 3, "k": 1000, "start": 0.03, "end": 0.07, "warmup": 2},
]
STEPS, EPOCHS = 4, 5

SCHEDULES: dict[str, dict[str, Any]] = {
    "lr": {"base_value": 0.002, "final_value": 1e-5, "epochs": 30, "niter_per_ep": 40, "warmup_epochs": 3},
    "weight_decay": {"base_value": 0.04, "final_value": 0.4, "epochs": 30, "niter_per_ep": 40},
    "teacher_momentum": {"base_value": 0.996, "final_value": 1, "epochs": 30, "niter_per_ep": 40},
}
SAMPLED = [0, 1, 119, 120, 121, 600, 1198, 1199]


def draw_logits(case: dict[str, Any], step: int) -> tuple[Tensor, Tensor]:
    """Student (V * B, K) and teacher (2 * B, K) logits of a step; the teacher's have a common part, as real ones."""
    generator = torch.Generator().manual_seed(1000 * case["k"] + step)
    student = torch.randn(case["views"] * case["batch"], case["k"], generator=generator)
    common = torch.randn(1, case["k"], generator=torch.Generator().manual_seed(case["k"]))
    teacher = 0.3 * torch.randn(2 * case["batch"], case["k"], generator=generator) + 0.5 * common
    return student, teacher


def draw_gradients() -> list[Tensor]:
    """Gradients of very different norms."""
    generator = torch.Generator().manual_seed(7)
    return [scale * torch.randn(40, 3, generator=generator) for scale in (0.001, 0.1, 1.0, 30.0)]


def authors_losses(main_dino: Any) -> list[dict[str, Any]]:
    results = []
    for case in LOSS_CASES:
        objective = main_dino.DINOLoss(case["k"], case["views"], case["start"], case["end"], case["warmup"], EPOCHS)
        steps = []
        for step in range(STEPS):
            student, teacher = draw_logits(case, step)
            student.requires_grad_()
            loss = objective(student, teacher, step)  # a step an epoch: every temperature of the warm-up
            loss.backward()
            assert student.grad is not None
            steps.append(
                {
                    "loss": loss.item(),
                    "gradient_norm": student.grad.norm().item(),
                    "gradient_sample": student.grad[:: case["batch"], 1].tolist(),
                    "centre_norm": objective.center.norm().item(),
                    "centre_sample": objective.center[0, :4].tolist(),
                }
            )
        results.append({**case, "steps": steps})
    return results


def authors_clipping(utils: Any) -> list[float]:
    module = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(40, 3)) for _ in range(4)])
    for parameter, gradient in zip(module, draw_gradients(), strict=True):
        parameter.grad = gradient.clone()
    utils.clip_gradients(module, 3.0)
    return [parameter.grad.norm().item() for parameter in module]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    sys.path.insert(0, str(parser.parse_args().reference))
    import main_dino
    import utils

    # Their centre update needs a process group.
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    golden = {
        "losses": authors_losses(main_dino),
        "schedules": {name: utils.cosine_scheduler(**case)[SAMPLED].tolist() for name, case in SCHEDULES.items()},
        "clipped_norms": authors_clipping(utils),
    }
    torch.distributed.destroy_process_group()
    Path(__file__).with_name("training.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
