"""The evaluations a study may ask for: their metrics' names and where their files stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Protocol:
    """One evaluation of a checkpoint. ``metrics`` maps a pattern of metric names to what they are, for people."""

    name: str
    title: str
    metrics: dict[str, str]

    def knows(self, metric: str) -> bool:
        """Whether the protocol's metrics file can hold ``metric``."""
        return any(re.fullmatch(pattern, metric) for pattern in self.metrics)


PROTOCOLS: dict[str, Protocol] = {
    "knn": Protocol(
        name="knn",
        title="k-NN",
        metrics={"top1": "top-1 accuracy (%) at the headline k", r"top1_k\d+": "top-1 accuracy (%) at that k"},
    )
}


def run_dir(scale: str, run: str) -> Path:
    """Where a run's files stand, relative to the working directory."""
    return Path("results") / scale / "runs" / run


def metrics_file(scale: str, run: str, protocol: str) -> Path:
    """The metrics file of one protocol of one run."""
    return run_dir(scale, run) / "metrics" / f"{protocol}.json"
