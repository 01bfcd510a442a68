"""What jobs ask for: threads, memory, time, GPUs, by rule and, where a scale says so, by what the run is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dino.protocols import PICTURES, PROTOCOLS

RULES = (
    *("generate_data", "pretrain", "extract_features"),
    *(f"evaluate_{protocol.name}" for protocol in PROTOCOLS.values() if protocol.has_job),
    *(f"draw_{picture}" for picture in PICTURES),
    *("make_table", "make_figure", "make_curves", "make_report"),
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Model):
    """What one job of a rule asks for, on this machine or from a scheduler."""

    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of a task."""
    mem_mb: Annotated[int, Field(ge=1)] = 2000
    runtime: Annotated[int, Field(ge=1)] = 60
    """Time limit in minutes."""
    gpu: Annotated[int, Field(ge=0)] = 0
    """GPUs on each node."""
    nodes: Annotated[int, Field(ge=1)] = 1
    tasks_per_node: Annotated[int, Field(ge=1)] = 1
    """Processes on each node: one a GPU for distributed training."""

    @property
    def gpus(self) -> int:
        """GPUs on all nodes."""
        return self.gpu * self.nodes


class ResourceCase(_Model):
    """Other resources for some runs; of several cases that fit, a later one wins."""

    when: Annotated[dict[str, Any], Field(min_length=1)]
    """Fields of the run's configuration and the value, or list of values, that each must have."""
    resources: dict[str, Resources]
    """By rule; what is not said stays as it is."""


def fits(when: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether ``values`` has what ``when`` asks: each key's value, or one of its list."""
    return all(values.get(key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in when.items())
