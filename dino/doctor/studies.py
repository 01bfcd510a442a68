"""Which studies need what, asked of the workflow in a process of its own: `dino` imports nothing of it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dino import registry

TIMEOUT_SECONDS = 120
NAMED = 5
"""Studies that are named before the rest is counted."""

ByScale = dict[str, list[str]]


@dataclass(frozen=True)
class StudyNeeds:
    """What ``python -m workflow needs --json`` says: name -> scale -> studies."""

    datasets: dict[str, ByScale] = field(default_factory=dict)
    weights: dict[str, ByScale] = field(default_factory=dict)
    problem: str = ""
    """Why it says nothing, e.g. a mistake in a study."""


def ask_needs() -> StudyNeeds:
    """Ask once; without a checkout nothing is needed."""
    return _ask(registry.PROJECT_ROOT)


@functools.lru_cache(maxsize=4)
def _ask(root: Path) -> StudyNeeds:
    if not (root / "workflow" / "__main__.py").is_file():
        return StudyNeeds()
    command = [sys.executable, "-m", "workflow", "needs", "--json"]
    try:
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.TimeoutExpired, OSError) as error:
        return StudyNeeds(problem=f"`python -m workflow needs` does not answer ({type(error).__name__})")
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        return StudyNeeds(problem=last)
    try:
        document = json.loads(answer.stdout)
        return StudyNeeds(datasets=document["datasets"], weights=document["weights"])
    except (ValueError, KeyError, TypeError):
        return StudyNeeds(problem="`python -m workflow needs --json` gives no answer that the doctor understands")


def by_scale(needed: ByScale) -> str:
    """``teacher, transfer (paper); teacher (gpu)``: the first few studies of each scale."""
    parts = []
    for scale, studies in needed.items():
        more = f" and {len(studies) - NAMED} more" if len(studies) > NAMED else ""
        parts.append(f"{', '.join(studies[:NAMED])}{more} ({scale})")
    return "; ".join(parts)
