"""The evaluations a study may ask for: their metrics' names and where their files stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Protocol:
    """One evaluation of a checkpoint. ``metrics`` says what each metric is; a capital K in a name is any number."""

    name: str
    title: str
    metrics: dict[str, str]

    def knows(self, metric: str) -> bool:
        """Whether the protocol's metrics file can hold ``metric``."""
        return any(re.fullmatch(name.replace("K", r"\d+"), metric) for name in self.metrics)


PROTOCOLS: dict[str, Protocol] = {
    "knn": Protocol(
        name="knn",
        title="k-NN",
        metrics={
            "top1": "top-1 accuracy (%) at the headline k",
            "top5": "top-5 accuracy (%) at the headline k",
            "top1_kK": "top-1 accuracy (%) at that k",
            "top5_kK": "top-5 accuracy (%) at that k",
        },
    )
}


def run_dir(scale: str, run: str) -> Path:
    """Where a run's files stand, relative to the working directory."""
    return Path("results") / scale / "runs" / run


def metrics_file(scale: str, run: str, protocol: str) -> Path:
    """The metrics file of one protocol of one run."""
    return run_dir(scale, run) / "metrics" / f"{protocol}.json"
