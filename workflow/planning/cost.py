"""What a call of `snakemake` would cost, said before it runs; and which runs the plan holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from dino.config import RunConfig
from dino.protocols import PROTOCOLS
from workflow.planning.paths import metrics_file
from workflow.planning.plan import Plan, PlannedRun

TABLE_8_HOURS = {0: 15.3, 2: 17.0, 6: 20.3, 10: 24.2}
"""Wall-clock hours of 100 epochs of ViT-S/16 at batch 1024 on 16 V100, by number of local crops (Table 8)."""
TABLE_8_GPUS = 16
TABLE_1_IMAGES: dict[tuple[str, int | None], int] = {
    ("vit_small", 16): 1007,
    ("vit_small", 8): 180,
    ("vit_small", 5): 44,
    ("vit_base", 16): 312,
    ("vit_base", 8): 63,
    ("resnet50", None): 1237,
}
"""Images a second of each backbone on one V100 (Table 1; ViT-S/5: App. D, Fig. 5)."""


def cost_lines(plan: Plan) -> list[str]:
    """The cost of a plan that was made with ``assume_data``, a line a statement; says so where it is not known."""
    runs = list(plan.runs.values())
    trained = {run.run_id: run.config for run in runs if run.config is not None}
    waiting = [run for run in runs if run.config is not None and not (run.run_dir / "checkpoint.pth").is_file()]
    lines = [
        f"scale {plan.scale.name}: {len(plan.studies)} studies, {plan.seeds} seed(s), {len(plan.cells)} cells",
        f"{len(trained)} runs, of which {len(trained) - len(waiting)} are done; about {_jobs(plan, runs)} jobs in all",
    ]
    if len(runs) > len(trained):
        lines.append(f"{len(runs) - len(trained)} networks are external weights")
    if waiting:
        lines.append(_pretraining(plan, runs, waiting))
    lines += _evaluation(plan, runs)
    return lines + [
        f"data set {name} is missing: {state.missing}" for name, state in plan.data.items() if state.missing
    ]


def _jobs(plan: Plan, runs: Sequence[PlannedRun]) -> int:
    """Configuration and training of each run, features once a data set, evaluations, artefacts of studies, report."""
    count = 2 * sum(run.config is not None for run in runs) + 3 * len(plan.studies) + 1
    for run in runs:
        placed = run.evaluations.values()
        count += sum(PROTOCOLS[each.protocol].has_job for each in placed)
        count += len({each.dataset for each in placed if PROTOCOLS[each.protocol].reads == "features"})
    return count


# --- pretraining -----------------------------------------------------------------------------------------------------


def _pretraining(plan: Plan, runs: Sequence[PlannedRun], waiting: Sequence[PlannedRun]) -> str:
    if plan.scale.comparable:
        known = [(run, hours) for run in waiting if (hours := paper_gpu_hours(run)) is not None]
        total = sum(hours for _, hours in known)
        others = sum(hours for run, hours in known if not _in_table_8(run))
        ratio = f", of which {others:,.0f} by the ratios of Table 1's throughputs" if others else ""
        rest = f"; {len(waiting) - len(known)} without a published time" if len(known) < len(waiting) else ""
        return f"pretraining, by Table 8 of the paper: {total:,.0f} V100-hours{ratio}{rest}"
    finished = [
        (run.config, seconds)
        for run in runs
        if run.config is not None and run.config.epochs and (seconds := measured_seconds(run)) is not None
    ]
    if not finished:
        return "pretraining: unknown, since no run of this scale has finished yet (its file says what to expect)"
    # Epochs of one scale cost about the same; crops make the difference, in pixels that the student sees.
    rate = sum(seconds for _, seconds in finished) / sum(_work(config) for config, _ in finished)
    need = plan.scale.resources_of("pretrain")
    unit, count = ("GPU", need.gpus) if need.gpu else ("core", need.threads)
    hours = rate * sum(_work(run.config) for run in waiting if run.config) * count / 3600
    return f"pretraining, from {len(finished)} finished runs of this scale: about {hours:.2g} {unit}-hours"


def _in_table_8(run: PlannedRun) -> bool:
    return run.config is not None and (run.config.arch, run.config.patch_size) == ("vit_small", 16)


def paper_gpu_hours(run: PlannedRun) -> float | None:
    """V100-hours of a pretraining at the paper's settings: those of ViT-S/16, over the ratio of throughputs (Table 1).

    None where the paper does not tell: runs with labels, other backbones, more local crops than ten.
    """
    config = run.config
    if config is None or config.objective == "supervised":
        return None
    if config.epochs == 0:
        return 0.0
    patch = None if config.arch == "resnet50" else config.patch_size
    hours, images = _table_8_hours(config.num_local_crops), TABLE_1_IMAGES.get((config.arch, patch))
    if hours is None or images is None:
        return None
    return hours * TABLE_1_IMAGES["vit_small", 16] / images * TABLE_8_GPUS * config.epochs / 100


def _table_8_hours(crops: int) -> float | None:
    """Hours of Table 8, on straight lines between its numbers of local crops."""
    for (low, before), (high, after) in pairwise(sorted(TABLE_8_HOURS.items())):
        if low <= crops <= high:
            return before + (after - before) * (crops - low) / (high - low)
    return None


def measured_seconds(run: PlannedRun) -> float | None:
    """How long a finished run took, over all its attempts; None where it has not finished here."""
    status = _read(run.run_dir / "status.json")
    seconds = status.get("seconds")
    return float(seconds) if status.get("status") == "finished" and isinstance(seconds, int | float) else None


def _read(path: Path) -> dict[str, Any]:
    """A job's JSON file; nothing where it has not been written, or a job is at it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _work(config: RunConfig) -> float:
    return config.epochs * (2 * config.global_crop_size**2 + config.num_local_crops * config.local_crop_size**2)


# --- evaluations -----------------------------------------------------------------------------------------------------


def _evaluation(plan: Plan, runs: Sequence[PlannedRun]) -> list[str]:
    """How many evaluations of each protocol wait, and their time where one of the scale has been measured."""
    waiting: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    for run in runs:
        for placed in run.evaluations.values():
            if not PROTOCOLS[placed.protocol].has_job:
                continue
            document = _read(metrics_file(plan.scale.name, run.run_id, placed.name))
            if document:
                seconds.setdefault(placed.protocol, []).append(float(document.get("seconds", 0.0)))
            else:
                waiting[placed.protocol] += 1
    if not waiting:
        return []
    counts = ", ".join(f"{count} {PROTOCOLS[name].title or name}" for name, count in waiting.items())
    known = {name: sum(each) / len(each) for name, each in seconds.items() if name in waiting}
    lines = [f"evaluations that wait: {counts}"]
    if known:
        total = sum(waiting[name] * mean for name, mean in known.items())
        without = sum(count for name, count in waiting.items() if name not in known)
        rest = f"; {without} are of protocols that no finished run tells the time of" if without else ""
        lines.append(f"evaluations, from finished ones of this scale: about {total / 3600:.2g} hours of one job{rest}")
    return lines


def run_lines(plan: Plan) -> list[str]:
    """Each run with the rows that show it."""
    lines = []
    for run in plan.runs.values():
        rows = ", ".join(f"{name['study']}/{name['variant']}" for name in run.names)
        lines.append(f"{run.run_id}  {rows}")
    return lines
