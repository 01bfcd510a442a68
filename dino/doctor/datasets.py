"""Every registered data set: where it is, whether it is whole, and what is lost without it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from dino import registry
from dino.doctor.findings import Finding, Status
from dino.errors import UserError
from dino.registry import DatasetSpec

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
SCALES = registry.PROJECT_ROOT / "workflow" / "scales"
MANIFEST = "manifest.json"
"""Written last: a generated set without it is not finished."""
TORCHVISION_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def examine_datasets(*, images: bool = True) -> list[Finding]:
    """A finding for each registered set.

    Args:
        images: Count the images and decode one of each class.
    """
    try:
        specs = registry.load_registry()
        return [_examine(spec, images=images) for spec in specs.values()]
    except UserError as error:  # a broken registry is itself what is found
        return [Finding("data sets", "registry", "broken", str(error))]


def _examine(spec: DatasetSpec, *, images: bool) -> Finding:
    used = _used_by(spec.name)
    reason = registry.missing_reason(spec)
    if reason is not None:
        lost = f"; without it the {', '.join(used)} scale cannot run" if used else ""
        return Finding("data sets", spec.name, "missing", "not here" + lost, reason)
    root = registry.locate(spec)
    if root is None or not root.is_dir() or (spec.kind == "generated" and not (root / MANIFEST).is_file()):
        return Finding("data sets", spec.name, "ok", "not made yet", "`snakemake` makes it, or `dino generate`")
    problems = []
    facts = [str(root)]
    if spec.kind == "generated":
        manifest, problem = _manifest(root, spec)
        facts += [f"digest {manifest['digest']}"] if manifest.get("digest") else []
        problems += [problem] if problem else []
    batches = root / TORCHVISION_FOLDERS.get(spec.name, ".")
    if spec.kind == "torchvision" and batches != root and batches.is_dir():
        facts.append(f"torchvision's download ({batches.name})")
    elif images:
        for split, folder in spec.splits.items():
            fact, found = _examine_split(root / folder, classes=spec.num_classes)
            facts.append(f"{split}: {fact}")
            problems += [f"{split}: {problem}" for problem in found]
    if not problems:
        return Finding("data sets", spec.name, "ok", "; ".join(facts))
    # The default scale's own set can be made again, any other is the user's.
    advice = f"delete {root} and let `snakemake` make it again" if spec.kind == "generated" else "provide it again"
    status: Status = "broken" if "laptop" in used else "missing"
    return Finding("data sets", spec.name, status, "; ".join([*facts, *problems]), advice)


def _used_by(name: str) -> list[str]:
    """Scales that read the set ``name``: those that map a recipe's set to it, or run a recipe's set as it is."""
    used = []
    for path in sorted(SCALES.glob("*.yaml")):
        scale = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        mapped = scale.get("datasets") or {}
        if name in mapped.values() or (name == "imagenet" and name not in mapped):
            used.append(path.stem)
    return used


def _manifest(root: Path, spec: DatasetSpec) -> tuple[dict[str, object], str]:
    """The generated set's manifest, and what is wrong with it."""
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except ValueError:
        return {}, f"its {MANIFEST} is damaged"
    expected = registry.dataset_version(spec)
    if manifest.get("digest") != expected:
        return manifest, f"made with other settings (expected digest {expected})"
    return manifest, ""


def _examine_split(folder: Path, *, classes: int | None) -> tuple[str, list[str]]:
    """Number of images and classes of an ImageFolder's split, and what is wrong: one image a class is decoded."""
    if not folder.is_dir():
        return "none", [f"no folder {folder}"]
    count, empty, undecodable = 0, [], []
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for name in names:
        with os.scandir(folder / name) as entries:
            files = [entry.name for entry in entries if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES]
        count += len(files)
        if not files:
            empty.append(name)
        elif not _decodes(folder / name / min(files)):
            undecodable.append(f"{name}/{min(files)}")
    problems = []
    if classes is not None and len(names) != classes:
        problems.append(f"{len(names)} classes, expected {classes}")
    if empty:
        problems.append(f"{len(empty)} classes without images (the first: {empty[0]})")
    if undecodable:
        problems.append(f"{len(undecodable)} images cannot be decoded (the first: {undecodable[0]})")
    return f"{count} images of {len(names)} classes", problems


def _decodes(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files of one kind or another
        return False
    return True
