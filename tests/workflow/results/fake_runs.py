"""Writes plausible run directories for a plan: what training and evaluation would leave, without training.

Run it to look at the artefacts: ``python tests/workflow/results/fake_runs.py FOLDER`` then
``python -m workflow table teacher --results FOLDER/results/laptop``.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dino.config import RunConfig, dump_config
from workflow.inputs.scales import Scale
from workflow.inputs.studies import Study
from workflow.planning.placement import Placement, data_state
from workflow.planning.plan import Cell, Plan, PlannedRun, make_plan

PROJECT = Path(__file__).resolve().parents[3]
CHANCE = 5.0
TEST_IMAGES = 2000
HEALTHY = 82.0
RANDOM = 55.0


def expected_top1(config: RunConfig) -> float:
    """A made-up k-NN accuracy with the order that the paper reports; collapsed runs are near chance."""
    if config.epochs == 0:
        return RANDOM
    if named_collapse(config):
        return CHANCE + 1.2
    accuracy = HEALTHY
    if config.teacher == "previous_epoch":
        accuracy -= 9.0
    accuracy -= {0.0: 16.0, 0.025: 3.0, 0.075: 1.0}.get(config.teacher_temp, 0.0)
    accuracy -= {0.0: 0.6, 0.99: 0.4}.get(config.center_momentum, 0.0)
    return accuracy


def named_collapse(config: RunConfig) -> str | None:
    """What the watch would say."""
    if config.teacher in ("student_copy", "previous_iteration"):
        return "one-hot"
    if config.teacher_temp >= config.student_temp:
        return "uniform"
    if config.center_momentum >= 0.999:
        return "one-hot"
    return None


def write_run(
    folder: Path,
    config: RunConfig,
    *,
    status: str = "finished",
    metrics: bool = True,
    top1: float | None = None,
    collapse: str | Literal["expected"] | None = "expected",
) -> None:
    """One run directory with config, status, journal and a k-NN metrics file; ``top1`` is made up where not given."""
    # From what the studies vary, not from the run id: a change of the scale moves no number of a test.
    varied = (config.seed, config.epochs == 0, config.teacher, config.teacher_temp, config.center_momentum)
    rng = np.random.default_rng(zlib.crc32(repr(varied).encode()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config))
    steps = round(62 * config.epochs)
    if collapse == "expected":
        collapse = named_collapse(config) if steps else None
    (folder / "status.json").write_text(
        json.dumps(
            {
                "status": status,
                "step": steps,
                "message": "",
                "collapse": collapse,
                "collapse_step": steps // 3 if collapse else None,
                "started": "2026-01-31T11:58:00+00:00",
                "seconds": 0.05 * steps + 3,
            }
        )
    )
    if steps:
        (folder / "metrics.jsonl").write_text("".join(journal(config, steps, collapse, rng)))
    if not metrics:
        return
    if top1 is None:
        top1 = round(float(np.clip(expected_top1(config) + rng.normal(0, 0.6), 0, 100)), 4)
    document = {
        "schema": 1,
        "protocol": "knn",
        "metrics": {
            "top1": {"value": top1, "unit": "%", "n": TEST_IMAGES},
            "top1_k5": {"value": top1 - 0.4, "unit": "%", "n": TEST_IMAGES},
        },
        "chance": CHANCE,
        "settings": {"k": [5, 10, 20, 100], "headline_k": 20, "temperature": 0.07},
        "run_id": folder.name,
        "fingerprint": folder.name[-10:],
        "seed": config.seed,
        "code_version": 1,
        "data": {
            "name": config.dataset,
            "digest": "5f2c0a7b91",
            "train": 8000,
            "test": TEST_IMAGES,
            "classes": 20,
        },
        "checkpoint": {"path": str(folder / "checkpoint.pth"), "sha256": "0" * 64, "key": "teacher"},
        "device": "cpu",
        "seconds": 1.9,
        "peak_memory_mib": 410,
        "created": "2026-01-31T12:00:00+00:00",
        "notes": [],
        "versions": {"dino": "0.1.0", "torch": "2.14.1", "timm": "1.0.31"},
    }
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics" / "knn.json").write_text(json.dumps(document))


def journal(config: RunConfig, steps: int, collapse: str | None, rng: np.random.Generator) -> Iterable[str]:
    """Lines of ``metrics.jsonl`` whose curves look like training, or like one of the two collapses."""
    uniform = math.log(config.out_dim)
    for step in range(1, steps + 1, max(1, steps // 200)):
        done = step / steps
        noise = rng.normal(0, 0.04)
        if collapse == "uniform":
            entropy = uniform - 1.5 * math.exp(-12 * done)
            kl = 0.4 * math.exp(-10 * done)
        elif collapse:
            entropy = 4.5 * math.exp(-9 * done)
            kl = 0.5 * math.exp(-9 * done)
        else:
            entropy = 2.2 + 2.5 * math.exp(-6 * done)
            kl = 1.6 - 1.2 * math.exp(-5 * done) + noise * 0.3
        metrics = {
            "loss": max(0.0, entropy + kl + noise),
            "teacher_entropy": max(0.0, entropy + noise / 2),
            "kl": max(0.0, kl),
            "lr": 1e-3,
        }
        yield json.dumps({"step": step, "epoch": step / 62, "time": 1790000000.0 + step, "metrics": metrics}) + "\n"


def write_runs(root: Path, plan: Plan) -> None:
    """All runs of ``plan`` under ``root`` (which stands for the project's folder)."""
    for run in plan.runs.values():
        write_run(root / run.run_dir, run.config)


def hand_made(
    root: Path,
    study: dict[str, Any],
    numbers: dict[str, dict[int, float | None]],
    *,
    seeds: int = 1,
    comparable: bool = False,
    missing: dict[str, str] | None = None,
    collapse: dict[str, str] | None = None,
) -> Plan:
    """A plan of one study with chosen numbers and simple run ids, its files written below ``root``.

    Args:
        root: Stands for the project's folder.
        study: Fields of the study.
        numbers: top-1 by variant and seed; None writes a run without metrics.
        seeds: Of the plan.
        comparable: Of the scale.
        missing: Why a variant cannot run.
        collapse: What the watch named, by variant.
    """
    named = Study(**{"name": "mini", "path": Path("ablations/mini.yaml"), "base": "vits16_100ep", **study})
    scale = Scale(name="desk", path=Path("workflow/scales/desk.yaml"), title="Desk", comparable=comparable)
    placement = Placement(scale, asked=set(), assume_data=True, state=data_state)
    plan = Plan(scale=scale, studies={"mini": named}, seeds=seeds, placement=placement)
    for name, variant in named.variants.items():
        for seed in range(seeds):
            reason = (missing or {}).get(name)
            run = None if reason or variant.quoted else f"run-{name}-s{seed}"
            folder = Path("results/desk/runs") / str(run)
            if run:
                config = RunConfig(
                    **{"dataset": "desk-world", "epochs": 10, "out_dim": 256, **variant.set, "seed": seed}
                )
                plan.runs[run] = PlannedRun(run, "desk", folder, config, "vit_small/16")
                plan.runs[run].names.append({"study": "mini", "variant": name, "label": variant.label})
                top1 = numbers.get(name, {}).get(seed)
                named_collapse = (collapse or {}).get(name)
                write_run(root / folder, config, metrics=top1 is not None, top1=top1, collapse=named_collapse)
            for metric in named.metrics:
                file = folder / "metrics" / "knn.json" if run else None
                plan.cells.append(Cell("mini", name, metric, seed, run, file, reason))
    return plan


if __name__ == "__main__":
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    write_runs(Path(sys.argv[1]), make_plan(scale="laptop", studies="headline", seeds=seeds, root=PROJECT))
