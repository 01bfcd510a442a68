"""Every registered data set: where it is, whether it is whole, and which studies are not run without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dino import registry
from dino.doctor.findings import Finding, Status
from dino.doctor.studies import ByScale, StudyNeeds, by_scale
from dino.errors import UserError
from dino.registry import DatasetSpec

DEFAULT_SCALE = "laptop"
MANIFEST = "manifest.json"
"""Written last: a generated set without it is not finished."""


def examine_datasets(needs: StudyNeeds, *, images: bool = True) -> list[Finding]:
    """A finding for each registered set.

    Args:
        needs: Which studies need which.
        images: Count the images, decode one of each class or sequence, and check published hashes.
    """
    try:
        specs = registry.load_registry()
        findings = [_examine(spec, needs.datasets.get(spec.name, {}), images=images) for spec in specs.values()]
    except UserError as error:  # a broken registry is itself what is found
        return [Finding("data sets", "registry", "broken", str(error))]
    if needs.problem:
        findings.append(Finding("data sets", "studies", "broken", needs.problem, "mend the study or scale it names"))
    return findings


def _examine(spec: DatasetSpec, needed: ByScale, *, images: bool) -> Finding:
    lost = f"without it cells are not run of {by_scale(needed)}" if needed else ""
    reason = registry.missing_reason(spec)
    if reason is not None:
        return Finding("data sets", spec.name, "missing", f"not here; {lost}" if lost else "not here", reason)
    root = registry.locate(spec)
    if root is None or not root.is_dir() or (spec.kind == "generated" and not (root / MANIFEST).is_file()):
        return Finding("data sets", spec.name, "ok", "not made yet", "`snakemake` makes it, or `dino generate`")
    facts, problems, expected = [str(root)], [], dict(spec.counts)
    if spec.kind == "generated":
        manifest, problem = _manifest(root, spec)
        facts += [f"digest {manifest['digest']}"] if manifest.get("digest") else []
        problems += [problem] if problem else []
        expected |= {key: value for key, value in manifest.items() if isinstance(value, int)}
    if images:
        from dino.doctor.layouts import look_at

        look = look_at(spec, root, expected=expected)
        facts += look.facts
        problems += look.problems
    if not problems:
        return Finding("data sets", spec.name, "ok", "; ".join(facts))
    # The default scale's own set can be made again, any other is the user's.
    if spec.kind == "generated":
        advice = f"delete {root} and let `snakemake` make it again"
    else:
        advice = "provide it again" + (f"; {lost}" if lost else "")
    status: Status = "broken" if DEFAULT_SCALE in needed else "missing"
    return Finding("data sets", spec.name, status, "; ".join([*facts, *problems]), advice)


def _manifest(root: Path, spec: DatasetSpec) -> tuple[dict[str, Any], str]:
    """The generated set's manifest, and what is wrong with it."""
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except ValueError:
        return {}, f"its {MANIFEST} is damaged"
    expected = registry.dataset_version(spec)
    if manifest.get("digest") != expected:
        return manifest, f"made with other settings (expected digest {expected})"
    return manifest, ""
