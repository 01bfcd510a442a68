"""Where and with which code something runs: ``environment.json`` in a run directory, and in words for a page."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from dino.files import write_json
from dino.metrics import PACKAGES, package_versions

ENVIRONMENT = "environment.json"


def record_environment(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Write ``environment.json`` and return its content; a resumed run writes it again.

    It says which process the run is (so that a mirror can tell a killed one from a running one), and which commit made
    its numbers: that has to be asked now, since the checkout may have moved on when the run is delivered.
    """
    document = describe_environment()
    write_json(Path(run_dir) / ENVIRONMENT, document)
    return document


def describe_environment() -> dict[str, Any]:
    """Host, process, user, commit, Slurm job and versions; nothing that takes longer than a ``git status``."""
    commit, dirty = git_state(Path(__file__).resolve().parents[2])
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": _user(),
        "git_commit": commit,
        "git_dirty": dirty,
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "command": " ".join(sys.argv),
        "versions": {name: version for name, version in package_versions().items() if name in PACKAGES},
    }


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that holds ``folder``, and whether tracked files differ from it; Nones outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        if _git(folder, "rev-parse", "--show-toplevel") != str(folder):
            return None, None  # installed somewhere inside another project's checkout
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):  # no git, no checkout, or a disk that takes too long
        return None, None


def commit_in_words(folder: Path) -> str:
    """The commit of the checkout ``folder``, with a word where files were changed since; ``unknown`` outside of git."""
    commit, changed = git_state(folder.resolve())
    if commit is None:
        return "unknown"
    return f"{commit[:12]}, with local changes" if changed else commit[:12]


def machine_in_words() -> str:
    """This machine in a few words: system, processor, cores."""
    processor, cores = platform.machine(), os.cpu_count() or 1
    information = Path("/proc/cpuinfo")
    if information.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        processor = models[0] if models else processor
    count = f"{cores} core{'' if cores == 1 else 's'}"
    return f"{platform.system()}, {processor}, {count}, Python {platform.python_version()}"


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return answer.stdout.strip()


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's nameless user
        return None
