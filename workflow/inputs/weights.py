"""Runs of external weights, which a row may evaluate instead of a pretraining: the authors' released ones, DeiT's.

Their files come with ``dino fetch``; what there is stands in `dino.released`. Such a run has no configuration and no
pretraining: only metrics, under ``runs/weights-<name>``.
"""

from __future__ import annotations

from typing import Any, Literal

from dino.released import find_weights

WeightsChoice = Literal["pretrained", "released", "released-only"]

PREFIX = "weights-"
"""How the id of a run of external weights begins."""


def weights_run(name: str) -> str:
    """The id of the run of the weights ``name``."""
    return f"{PREFIX}{name}"


def is_weights_run(run_id: str) -> bool:
    """Whether a run's id is that of external weights."""
    return run_id.startswith(PREFIX)


def weights_fields(name: str) -> dict[str, Any]:
    """The backbone of the weights, as fields of a run's configuration."""
    spec = find_weights(name)
    return {"arch": spec.arch, "patch_size": spec.patch_size}
