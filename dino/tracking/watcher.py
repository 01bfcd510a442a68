"""Starting a watcher: a process of its own that mirrors run directories to MLflow while a job is going."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOG = "sync.log"


def start_watcher(
    paths: Sequence[str | os.PathLike[str]],
    *,
    names: str | os.PathLike[str] | None = None,
    parent: int | None = None,
    tracking_uri: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``dino sync --watch`` on ``paths``; it ends with a last pass on SIGTERM, or when ``parent`` is gone.

    It has a session of its own, so that Ctrl-C in the terminal reaches the job and not its mirror. Its messages go to
    ``sync.log`` in the first of ``paths``.

    Args:
        paths: Run directories or results folders.
        names: The table of names for people (``names.json``).
        parent: Process whose end ends the watch; this process if None.
        tracking_uri: The store; the one that `resolve_tracking_uri` finds if None.
    """
    folder = Path(paths[0])
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dino", "sync", *(os.fspath(path) for path in paths), "--watch"]
    command += ["--parent", str(os.getpid() if parent is None else parent)]
    if names is not None:
        command += ["--names", os.fspath(names)]
    if tracking_uri is not None:
        command += ["--tracking-uri", tracking_uri]
    with open(folder / LOG, "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
