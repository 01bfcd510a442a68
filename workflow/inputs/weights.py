"""External weights that a row may evaluate instead of a pretraining: the authors' released ones, DeiT's.

Their files come with ``dino fetch``; what there is stands in `dino.released`. A run of them has no configuration and no
pretraining: only metrics, under ``runs/weights-<name>``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PREFIX = "weights-"
"""How the id of a run of external weights begins."""


def known_weights() -> dict[str, Any]:
    """What is known of each, by name."""
    try:
        from dino.released import RELEASED
    except ImportError:  # until it lands
        return {}
    return dict(RELEASED)


def weights_run(name: str) -> str:
    """The id of the run of the weights ``name``."""
    return f"{PREFIX}{name}"


def is_weights_run(run_id: str) -> bool:
    """Whether a run's id is that of external weights."""
    return run_id.startswith(PREFIX)


def weights_path(name: str) -> Path:
    """Where the weights' file lies, or will lie."""
    try:
        from dino.released import weights_file
    except ImportError:  # until it lands
        return Path("results") / "weights" / f"{name}.pth"
    return weights_file(name)


def missing_weights(name: str) -> str | None:
    """Why the weights cannot be used, with the way out; None where they can."""
    try:
        from dino.released import missing_weights_reason
    except ImportError:  # until it lands
        return f"weights '{name}' are missing: `dino fetch {name}`"
    return missing_weights_reason(name)


def weights_fields(name: str) -> dict[str, Any]:
    """The backbone of the weights, as fields of a run's configuration."""
    spec = known_weights().get(name)
    if spec is None:  # until dino.released lands
        return {"arch": "vit_small", "patch_size": 16}
    return {"arch": spec.arch, "patch_size": spec.patch_size}
