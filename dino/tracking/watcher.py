"""Starting a watcher: a process of its own that mirrors run directories to MLflow while jobs are going.

Training never talks to a tracking server; this process does, from the journals, and if it dies nothing is lost:
``dino sync`` delivers the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

LOG = "sync.log"

LAST_PASS_SECONDS = 90
"""How long the last pass may take before what watches for it ends without it."""


def start_watcher(
    folder: str | os.PathLike[str],
    *,
    names: str | os.PathLike[str] | None = None,
    log: Path | None = None,
    parent: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``dino sync --watch`` on ``folder``; it ends with a last pass on SIGTERM, or when ``parent`` is gone.

    It has a session of its own, so that Ctrl-C ends jobs and not the delivery of what they wrote.

    Args:
        folder: A run directory or a folder of results.
        names: The table of names for people (``names.json``).
        log: Where its messages go; ``sync.log`` in ``folder`` if None.
        parent: Process whose end ends the watch; this process if None.
    """
    log = Path(folder) / LOG if log is None else log
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dino", "sync", os.fspath(folder), "--watch"]
    command += ["--parent", str(os.getpid() if parent is None else parent)]
    if names is not None:
        command += ["--names", os.fspath(names)]
    with open(log, "ab") as handle:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, start_new_session=True
        )


def stop_watcher(watcher: subprocess.Popen[bytes], *, seconds: float = LAST_PASS_SECONDS) -> str | None:
    """Ask for the last pass and wait for it. Returns what a person should know if it did not end well."""
    with contextlib.suppress(ProcessLookupError):
        watcher.send_signal(signal.SIGTERM)
    try:
        status = watcher.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"MLflow has not taken all points after {seconds:g} s"
    return None if status in (0, -signal.SIGTERM) else f"the watcher ended with status {status}"
