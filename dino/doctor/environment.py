"""Python, packages, the machine and its devices."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dino.doctor.findings import Finding
from dino.registry import PROJECT_ROOT

DISTRIBUTION = "dino-reproduction"
LEAST_MEMORY_GIB = 4
"""A job of the default scale takes at most this much."""
LEAST_DISK_GIB = 2

# Runs in its own process: a broken torch must not take the doctor with it.
_ASK_TORCH = """
import json, torch
devices = []
for index in range(torch.cuda.device_count()):
    found = torch.cuda.get_device_properties(index)
    with torch.cuda.device(index):
        devices.append([found.name, found.total_memory / 2**30, torch.cuda.is_bf16_supported()])
print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda,
                  "devices": devices}))
"""


def examine_packages() -> list[Finding]:
    """Python and every declared package, against the ranges that the project declares."""
    python, requirements = _declared()
    version = platform.python_version()
    fits = SpecifierSet(python).contains(version, prereleases=True)
    findings = [
        Finding("packages", "python", "ok" if fits else "broken", version, "" if fits else f"needs python{python}")
    ]
    wrong = 0
    for requirement in requirements:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if found and requirement.specifier.contains(found, prereleases=True):
            continue
        wrong += 1
        value = f"{found or 'not installed'}, declared {requirement}"
        findings.append(Finding("packages", requirement.name, "broken", value, "run `make env`"))
    value = f"{len(requirements) - wrong} of {len(requirements)} declared packages are installed in their ranges"
    return [*findings, Finding("packages", "requirements", "broken" if wrong else "ok", value)]


def _declared() -> tuple[str, list[Requirement]]:
    """(Python's range, the requirements) of pyproject.toml, or of the installed package where there is no checkout."""
    file = PROJECT_ROOT / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], [Requirement(text) for text in project["dependencies"]]
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    declared = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    return metadata["Requires-Python"], [each for each in declared if each.marker is None or each.marker.evaluate()]


def examine_machine() -> list[Finding]:
    """Cores, memory and disk that this process may use."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    total, limit = memory.total / 2**30, _memory_limit_gib()
    usable = min(memory.available / 2**30, limit or float("inf"))
    enough = usable >= LEAST_MEMORY_GIB
    free = psutil.disk_usage(str(existing_parent(results_folder()))).free / 2**30
    return [
        Finding("machine", "system", "ok", f"{platform.system()} {platform.machine()}, {cores} cores"),
        Finding(
            "machine",
            "memory",
            "ok" if enough else "missing",
            f"{usable:.1f} GiB free of {total:.1f} GiB" + (f", limited to {limit:.1f} GiB" if limit else ""),
            "" if enough else f"a job of the default scale may take {LEAST_MEMORY_GIB} GiB: run one job at a time",
        ),
        Finding(
            "machine",
            "disk",
            "ok" if free >= LEAST_DISK_GIB else "broken",
            f"{free:.1f} GiB free for {results_folder()}",
            "" if free >= LEAST_DISK_GIB else f"free at least {LEAST_DISK_GIB} GiB",
        ),
    ]


def results_folder() -> Path:
    """Where results go: beside the person who runs the command."""
    return Path.cwd() / "results"


def existing_parent(path: Path) -> Path:
    """``path`` itself or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _memory_limit_gib() -> float | None:
    """The container's limit (cgroup v2), where there is one."""
    file = Path("/sys/fs/cgroup/memory.max")
    if not file.is_file():
        return None
    text = file.read_text().strip()
    return int(text) / 2**30 if text.isdigit() else None


def examine_devices() -> list[Finding]:
    """What torch sees, asked in a process of its own."""
    try:
        answer = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return [Finding("devices", "torch", "broken", "importing it took more than 2 minutes", "is the disk slow?")]
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        return [Finding("devices", "torch", "broken", last, "run `make env`")]
    found = json.loads(answer.stdout.strip().splitlines()[-1])
    findings = [Finding("devices", "torch", "ok", f"{found['version']}, {found['threads']} CPU threads")]
    for index, (name, memory, bf16) in enumerate(found["devices"]):
        value = f"{name}, {memory:.0f} GiB, bf16 {'supported' if bf16 else 'not supported'}"
        findings.append(Finding("devices", f"cuda:{index}", "ok", value))
    if not found["devices"]:
        built = f"torch is built for CUDA {found['cuda']}" if found["cuda"] else "torch is built without CUDA"
        findings.append(Finding("devices", "cuda", "missing", f"none ({built})", "the gpu and paper scales need one"))
    return findings
