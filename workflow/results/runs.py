"""What a run directory says of itself: its status, its configuration's K and its curves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dino.errors import UserError

CURVES = ("loss", "teacher_entropy", "kl")
"""The journal's quantities that the training figure shows."""


@dataclass(frozen=True)
class RunFacts:
    """A run directory's ``config.yaml`` and ``status.json``; fields that they lack keep their defaults."""

    run_id: str
    folder: Path
    seed: int | None = None
    fingerprint: str = ""
    out_dim: int | None = None
    """K, the number of prototypes: a uniform teacher's entropy is ln K."""
    status: str = "not started"
    step: int | None = None
    seconds: float = 0.0
    """Wall time of the pretraining, over all of its resumptions."""
    collapse: str = ""
    """What the watch named, in words; empty where nothing collapsed."""
    message: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    """The rest of ``status.json``: whatever else pretraining tells."""


def read_run(folder: Path) -> RunFacts:
    """Read what stands in a run directory; a run that has not begun gives the defaults.

    Raises:
        UserError: A file is there and cannot be read.
    """
    config = _read(folder / "config.yaml", yaml.safe_load)
    status = _read(folder / "status.json", json.loads)
    fields = config.get("config", {})
    return RunFacts(
        run_id=folder.name,
        folder=folder,
        seed=fields.get("seed"),
        fingerprint=str(config.get("fingerprint", "")),
        out_dim=fields.get("out_dim"),
        status=str(status.pop("status", "not started")),
        step=status.pop("step", None),
        seconds=float(status.pop("seconds", None) or 0.0),
        collapse=_in_words(status.pop("collapse", None)),
        message=str(status.pop("message", None) or ""),
        extra=status,
    )


def read_curves(folder: Path) -> list[dict[str, float]]:
    """The journal's points as ``{"step", "epoch", <quantity>...}``, `CURVES` only; empty where there is no journal.

    A last line that a killed process left half-written is passed over.

    Raises:
        UserError: A line before the last is no record.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            point = {"step": float(record["step"]), "epoch": float(record["epoch"])}
            metrics = record["metrics"]
            point |= {name: float(metrics[name]) for name in CURVES if name in metrics}
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: not a journal record ({error})") from None
        if len(point) > 2:
            points.append(point)
    return points


_COLLAPSES = {
    "uniform": "collapse to the uniform output (teacher entropy at ln K)",
    "one-hot": "collapse to one prototype (teacher entropy at 0)",
    "constant": "collapse to a constant output (the teacher's vectors have no spread)",
}


def _in_words(collapse: Any) -> str:
    """The watch's word for a collapse (`status.json`) as people read it; an unknown word stands as it is."""
    return _COLLAPSES.get(str(collapse), str(collapse)) if collapse else ""


def _read(path: Path, parse: Any) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping")
    return document
