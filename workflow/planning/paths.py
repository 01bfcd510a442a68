"""Where a run's files stand."""

from __future__ import annotations

from pathlib import Path


def run_dir(scale: str, run: str) -> Path:
    """Where a run's files stand, relative to the working directory."""
    return Path("results") / scale / "runs" / run


def metrics_file(scale: str, run: str, evaluation: str) -> Path:
    """The metrics file of one evaluation of one run."""
    return run_dir(scale, run) / "metrics" / f"{evaluation}.json"
