"""What a call of `snakemake` would cost, said before it runs; and which runs the plan holds."""

from __future__ import annotations

import json
from collections.abc import Sequence

from workflow.plan import Plan, PlannedRun

TABLE_8_HOURS = {0: 15.3, 2: 17.0, 6: 20.3, 10: 24.2}
"""Wall-clock hours of 100 epochs of ViT-S/16 at batch 1024 on 16 V100, by number of local crops (Table 8)."""
TABLE_8_GPUS = 16


def cost_lines(plan: Plan) -> list[str]:
    """The cost of a plan that was made with ``assume_data``, a line a statement; says so where it is not known."""
    runs = list(plan.runs.values())
    waiting = [run for run in runs if not (run.run_dir / "checkpoint.pth").is_file()]
    # resolve, pretrain and features for each run, one job for each protocol; table and figure for each study; report.
    jobs = 3 * len(runs) + sum(len(run.evaluations) for run in runs) + 2 * len(plan.studies) + 1
    lines = [
        f"scale {plan.scale.name}: {len(plan.studies)} studies, {plan.seeds} seed(s), {len(plan.cells)} cells",
        f"{len(runs)} runs, of which {len(runs) - len(waiting)} are done; about {jobs} jobs in all",
    ]
    if waiting:
        lines.append(_time(plan, runs, waiting))
    lines += [f"data set {name} is missing: {state.missing}" for name, state in plan.data.items() if state.missing]
    return lines


def _time(plan: Plan, runs: Sequence[PlannedRun], waiting: Sequence[PlannedRun]) -> str:
    if plan.scale.comparable:
        known = [hours for run in waiting if (hours := paper_gpu_hours(run)) is not None]
        rest = f"; {len(waiting) - len(known)} runs have no published time" if len(known) < len(waiting) else ""
        return f"pretraining, by Table 8 of the paper: {sum(known):,.0f} V100-hours{rest}"
    measured = [(run, seconds) for run in runs if (seconds := measured_seconds(run)) is not None and run.config.epochs]
    if not measured:
        return "pretraining: unknown, since no run of this scale has finished yet (its file says what to expect)"
    # Epochs of one scale cost about the same; crops make the difference, in pixels that the student sees.
    rate = sum(seconds for _, seconds in measured) / sum(_work(run) for run, _ in measured)
    need = plan.scale.resources_of("pretrain")
    unit = "GPU" if need.gpu else "core"
    count = need.gpu * need.nodes if need.gpu else need.threads
    hours = rate * sum(_work(run) for run in waiting) * count / 3600
    return f"pretraining, from {len(measured)} finished runs of this scale: about {hours:.2g} {unit}-hours"


def paper_gpu_hours(run: PlannedRun) -> float | None:
    """V100-hours of a run at the paper's settings; None where Table 8 does not tell."""
    config = run.config
    if config.epochs == 0:
        return 0.0
    known = (config.arch, config.patch_size) == ("vit_small", 16) and config.num_local_crops in TABLE_8_HOURS
    return TABLE_8_HOURS[config.num_local_crops] * TABLE_8_GPUS * config.epochs / 100 if known else None


def measured_seconds(run: PlannedRun) -> float | None:
    """How long a finished run took, over all its attempts; None where it has not finished here."""
    try:
        status = json.loads((run.run_dir / "status.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    seconds = status.get("seconds")
    return float(seconds) if status.get("status") == "finished" and isinstance(seconds, int | float) else None


def _work(run: PlannedRun) -> float:
    config = run.config
    return config.epochs * (2 * config.global_crop_size**2 + config.num_local_crops * config.local_crop_size**2)


def run_lines(plan: Plan) -> list[str]:
    """Each run with the rows that show it."""
    lines = []
    for run in plan.runs.values():
        rows = ", ".join(f"{name['study']}/{name['variant']}" for name in run.names)
        lines.append(f"{run.run_id}  {rows}")
    return lines
