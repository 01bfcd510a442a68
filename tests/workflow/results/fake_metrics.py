"""Writes plausible metrics files for every cell of a plan, so that each study's artefacts can be looked at.

``python tests/workflow/results/fake_metrics.py FOLDER [SCALE]``, then
``python -m workflow figure main_results --scale SCALE --results FOLDER/results/SCALE``.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fake_runs import PROJECT, write_run

from workflow.planning.plan import Plan, PlannedRun, make_plan

TYPICAL = {
    "hours": 0.02,
    "peak_memory": 0.6,
    "loss": 3.0,
    "teacher_entropy": 2.4,
    "kl": 0.4,
    "im_per_s": 900.0,
    "params": 0.12,
    "tokens": 17,
    "dim": 64,
    "blocks": 3,
    "heads": 2,
    "head_dim": 32,
    "resolution": 32,
    "smallest_gap": 0.4,
    "teacher_minus_student": 4.0,
}
"""Values of metrics that are no accuracy, around which a run's are drawn."""


def write_metrics(root: Path, plan: Plan) -> None:
    """Run directories of all runs of ``plan`` below ``root``, with every metrics file that its cells name."""
    wanted: dict[Path, set[str]] = {}
    for cell in plan.cells:
        if cell.file is not None:
            wanted.setdefault(cell.file, set()).add(cell.metric.split(".", 1)[1])
    for run in plan.runs.values():
        if run.config is not None:
            write_run(root / run.run_dir, run.config, metrics=False)
        for name, placed in run.evaluations.items():
            file = run.run_dir / "metrics" / f"{name}.json"
            document = _document(run, placed.protocol, wanted[file], file)
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(json.dumps(document), encoding="utf-8")


def _document(run: PlannedRun, protocol: str, names: set[str], file: Path) -> dict[str, Any]:
    metrics = {name: _measure(run, name, file) for name in sorted(names)}
    if protocol == "knn_curve":
        metrics |= _series(run)
    return {
        "schema": 1,
        "protocol": protocol,
        "metrics": metrics,
        "chance": 5.0 if protocol in ("knn", "linear", "knn_curve", "logistic", "finetune") else None,
        "settings": {},
        "run_id": run.run_id if run.config is not None else None,
        "fingerprint": None,
        "seed": run.seed,
        "data": {"name": "made-up", "train": 8000, "test": 2000, "classes": 20},
        "device": "cpu",
        "seconds": 2.0,
        "created": "2026-01-31T12:00:00+00:00",
        "notes": [],
        "versions": {"dino": "0.1.0"},
    }


def _measure(run: PlannedRun, name: str, file: Path) -> dict[str, Any]:
    draw = np.random.default_rng(zlib.crc32(f"{file}{name}".encode())).uniform(0.75, 1.1)
    if name in TYPICAL:
        return {"value": TYPICAL[name] * draw, "unit": "", "n": None}
    untrained = run.config is not None and run.config.epochs == 0
    return {"value": (40.0 if untrained else 78.0) * draw, "unit": "%", "n": 2000}


def _series(run: PlannedRun) -> dict[str, Any]:
    assert run.config is not None
    epochs = sorted({math.ceil(run.config.epochs * number / 7) for number in range(1, 8)})
    values = {}
    for epoch in epochs:
        teacher = 80 - 40 * math.exp(-3 * epoch / run.config.epochs)
        values[f"teacher_e{epoch}"] = {"value": teacher, "unit": "%", "n": 2000}
        values[f"student_e{epoch}"] = {"value": teacher - 6 * (1.05 - epoch / epochs[-1]), "unit": "%", "n": 2000}
    return values


if __name__ == "__main__":
    scale = sys.argv[2] if len(sys.argv) > 2 else "laptop"
    write_metrics(Path(sys.argv[1]), make_plan(scale=scale, studies="all", root=PROJECT, assume_data=True))
