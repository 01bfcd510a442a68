"""The state of a run as a checkpoint's dict, and back (the keys: docs/architecture.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dino.config import run_id
from dino.errors import UserError
from dino.log import logger
from dino.running.random_state import derive_seed, random_states, restore_random_states

if TYPE_CHECKING:
    from dino.training.loop import Training


def capture(run: Training) -> dict[str, Any]:
    """Everything that the next step depends on; call at a step boundary, on all ranks."""
    step = run.step_once
    epoch, within = divmod(run.step, run.schedules.steps_per_epoch)
    return {
        "student": step.student.state_dict(),
        "teacher": step.teacher.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        "objective": step.objective.state_dict(),
        "teacher_state": step.teacher_rule.state_dict(),
        "rng": random_states(run.device),
        "watch": {"losses": run.losses.state(), "log_every": run.log_every, "collapse": run.watch.state_dict()},
        "step": run.step,
        "epoch": epoch,
        "offset": within * run.config.accumulate_steps,
        "steps_per_epoch": run.schedules.steps_per_epoch,
        "world_size": run.world.world_size,
        "threads": torch.get_num_threads(),
        "fingerprint": run.checkpoints.fingerprint,
        "run_id": run_id(run.config),
        "config": run.config.model_dump(mode="json"),
        "data_digest": run.loader.digest if run.loader else None,
        "mlflow_run_id": _mlflow_run_id(run.run_dir),
        "elapsed_seconds": run.seconds(),
    }


def restore(run: Training, state: dict[str, Any]) -> None:
    """Put a freshly built run where ``state`` was captured.

    At the same number of ranks and threads on a CPU, what follows is bit for bit what would have followed; where it
    cannot be, a warning says so.

    Raises:
        UserError: The run's data are not those of the checkpoint.
    """
    _check_data(run, state)
    step = run.step_once
    step.student.load_state_dict(state["student"])
    step.teacher.load_state_dict(state["teacher"])
    step.optimizer.load_state_dict(state["optimizer"])
    step.scaler.load_state_dict(state["scaler"])
    step.objective.load_state_dict(state["objective"])
    step.teacher_rule.load_state_dict(state["teacher_state"])
    run.watch.load_state_dict(state["watch"]["collapse"])
    run.step = state["step"]
    run.earlier_seconds = state["elapsed_seconds"]
    if state["watch"]["log_every"] == run.log_every:
        run.losses.restore(state["watch"]["losses"])
    restored = restore_random_states(state["rng"], run.world, run.device)
    if not restored:
        torch.manual_seed(derive_seed(run.config.seed, f"training from step {run.step}", run.world.rank))
    changed = []
    if state["world_size"] != run.world.world_size:
        changed.append(f"{run.world.world_size} ranks instead of {state['world_size']}")
    elif not restored:
        changed.append("another kind of device")
    if run.device.type == "cpu" and state["threads"] != torch.get_num_threads():
        changed.append(f"{torch.get_num_threads()} threads instead of {state['threads']}")
    if changed and run.world.is_main:
        logger.warning("going on with %s: a valid run, but not bit for bit what it would have been", ", ".join(changed))


def _check_data(run: Training, state: dict[str, Any]) -> None:
    digest = run.loader.digest if run.loader else None
    if state["data_digest"] != digest:
        raise UserError(
            f"{run.run_dir}: was trained on data with digest {state['data_digest']}, not {digest}: the data set has "
            "changed; give it the old one, or choose another --run-dir"
        )
    if state["steps_per_epoch"] != run.schedules.steps_per_epoch:
        raise UserError(
            f"{run.run_dir}: its epochs had {state['steps_per_epoch']} steps and now have "
            f"{run.schedules.steps_per_epoch}; run it with {state['world_size']} ranks, as before"
        )


def _mlflow_run_id(run_dir: Path) -> str | None:
    """Which MLflow run mirrors this one, if `dino sync` has begun it."""
    try:
        return json.loads((run_dir / "mlflow.json").read_text(encoding="utf-8")).get("run_id")
    except FileNotFoundError:
        return None
