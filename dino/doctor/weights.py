"""Released weights: which are here, whether they are what was fetched, and which studies may not be run without."""

from __future__ import annotations

import json
from pathlib import Path

from dino.doctor.findings import Finding
from dino.doctor.studies import StudyNeeds, by_scale
from dino.files import sha256_file
from dino.released import RELEASED, missing_weights_reason, weights_file


def examine_weights(needs: StudyNeeds, *, hashes: bool = True) -> list[Finding]:
    """A finding for each file that studies have a row of, or that is here.

    Args:
        needs: Which studies have rows of them.
        hashes: Read the files and compare their hashes.
    """
    findings = []
    for name in RELEASED:
        needed = needs.weights.get(name, {})
        reason = missing_weights_reason(name)
        if reason is None:
            findings.append(_examine(name, hashes=hashes))
        elif needed:
            findings.append(
                Finding("released weights", name, "missing", f"not here; rows of {by_scale(needed)}", reason)
            )
    return findings


def _examine(name: str, *, hashes: bool) -> Finding:
    file = weights_file(name)
    facts = f"{file}, {file.stat().st_size / 2**20:.0f} MiB"
    if not hashes:
        return Finding("released weights", name, "ok", facts)
    found = sha256_file(file)
    published, fetched = RELEASED[name].sha256, _fetched(file)
    if not found.startswith(published) or (fetched and found != fetched):
        value = f"{facts}; SHA-256 {found}, expected {published or fetched}"
        return Finding("released weights", name, "missing", value, f"`dino fetch {name} --force`")
    checked = "as published" if published else "as it was fetched" if fetched else "nothing to compare it with"
    return Finding("released weights", name, "ok", f"{facts}; SHA-256 {found[:12]}... ({checked})")


def _fetched(file: Path) -> str:
    """The hash that `dino fetch` noted."""
    try:
        return str(json.loads(file.with_name(f"{file.name}.json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError):
        return ""
