"""Where a result came from: the commit and the machine, in a few words."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path


def commit(root: Path) -> str:
    """The checkout's commit, with a word where files were changed since; ``unknown`` outside of git."""
    if shutil.which("git") is None:
        return "unknown"

    def git(*arguments: str) -> str | None:
        call = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return call.stdout.strip() if call.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{head}, with local changes" if changed else head


def machine() -> str:
    """This machine in a few words: system, processor, cores."""
    processor = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        processor = models[0] if models else processor
    return f"{platform.system()}, {processor}, {_cores()}, Python {platform.python_version()}"


def _cores() -> str:
    number = os.cpu_count() or 1
    return f"{number} core{'' if number == 1 else 's'}"
