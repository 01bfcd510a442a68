"""The job of an evaluation: what it waits for, what makes it stale, and its command, by what its protocol reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dino.protocols.protocol import Protocol
from workflow.planning.planner import Planner

METRICS = "results/{scale}/runs/{run}/metrics/{evaluation}.json"

_NETWORK = "--checkpoint {input.checkpoint} {params.model}"
_END = "--device auto --threads {threads} > {log} 2>&1"
_COMMANDS = {
    "features": "--train-features {input.train} --test-features {input.test} --output {output.metrics} {params.options}"
    " > {log} 2>&1",
    "images": f"{_NETWORK} --data {{params.data}} --output {{output.metrics}} {{params.options}} {_END}",
    "network": f"{_NETWORK} --output {{output.metrics}} {{params.options}} {_END}",
    # Goes on where it was stopped, and so does its log.
    "snapshots": "--snapshots {params.snapshots} --data {params.data} --output {output.metrics} {params.features}"
    " {params.options} --device auto --threads {threads} >> {log} 2>&1",
}


@dataclass(frozen=True)
class EvaluationJob:
    """What the rule of a protocol says beside the names of its files."""

    command: str
    inputs: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


def evaluation_job(planner: Planner, protocol: Protocol) -> EvaluationJob:
    """The job of ``protocol``, whose wildcards are ``scale``, ``run`` and ``evaluation``."""
    reads = protocol.reads
    inputs: dict[str, Any] = {}
    params: dict[str, Any] = {"code_version": planner.code_version(protocol.name), "options": planner.options}
    if reads == "features":
        inputs |= {split: planner.feature_file(split) for split in ("train", "test")}
    else:
        inputs["checkpoint"] = planner.checkpoint
    if reads in ("images", "network"):
        params["model"] = planner.model
    if reads in ("images", "snapshots"):
        inputs["data"] = planner.evaluation_data(METRICS)
        params |= {"data": planner.dataset, "data_version": planner.evaluation_data_version}
    if reads == "snapshots":
        params |= {"snapshots": planner.snapshot_folder, "features": planner.feature_options}
    return EvaluationJob(f"dino {protocol.name} {_COMMANDS[reads]}", inputs, params)
