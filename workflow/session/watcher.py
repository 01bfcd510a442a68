"""The tracking watcher: one ``dino sync --watch`` beside a run of the workflow, which mirrors journals to MLflow.

Training never talks to a tracking server; this process does, from the journals, and if it dies nothing is lost:
``dino sync results/<scale>`` delivers the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

LAST_PASS_SECONDS = 90
"""How long the last pass may take before the workflow ends without it."""


class Watcher:
    """A running ``dino sync --watch`` of one scale's results."""

    def __init__(self, results: Path, process: subprocess.Popen[bytes]):
        self.results = results
        self.process = process

    @classmethod
    def start(cls, results: Path, names: Path) -> Watcher:
        """Start it in a session of its own, so that Ctrl-C ends jobs and not the delivery of what they wrote."""
        log = results / "logs" / "sync.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dino", "sync", "--watch", str(results), "--names", str(names)]
        with open(log, "ab") as handle:
            process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(results, process)

    def stop(self, seconds: float = LAST_PASS_SECONDS) -> str | None:
        """Ask for a last pass and wait for it. Returns what a person should know if it did not end well."""
        by_hand = f"`dino sync {self.results}` delivers what is missing; see {self.results / 'logs' / 'sync.log'}"
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"tracking: MLflow has not taken all points after {seconds:g} s. {by_hand}"
        if status in (0, -signal.SIGTERM):
            return None
        return f"tracking: the watcher ended with status {status}. {by_hand}"
