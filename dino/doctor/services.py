"""The tracking store, version control, Slurm, and the folder for results."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from dino.doctor.environment import existing_parent, results_folder
from dino.doctor.findings import Finding
from dino.registry import PROJECT_ROOT
from dino.tracking.environment import git_state

TIMEOUT_SECONDS = 3.0


def examine_services() -> list[Finding]:
    """Tracking store, git, Slurm and results folder."""
    return [_tracking(), _git(), _slurm(), _results()]


def _tracking() -> Finding:
    """Runs never wait for the store, so that none of its troubles is worse than ``missing``."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}")
    advice = "runs go on without it; `dino sync` delivers to it later"
    scheme, _, rest = uri.partition("://")
    if scheme in ("http", "https"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS) as response:
                return Finding("services", "tracking", "ok", f"{uri} answers ({response.status})")
        except (urllib.error.URLError, OSError, ValueError) as error:
            return Finding("services", "tracking", "missing", f"{uri} does not answer: {error}", advice)
    if scheme == "sqlite":
        return _sqlite(uri, Path(rest.removeprefix("/")), advice)
    folder = existing_parent(Path(rest if scheme == "file" else uri).absolute())
    if scheme in ("file", uri):
        writable = os.access(folder, os.W_OK)
        value = f"{uri}: {'writable' if writable else 'not writable'}"
        return Finding("services", "tracking", "ok" if writable else "missing", value, "" if writable else advice)
    return Finding("services", "tracking", "ok", f"{uri} (stores of this kind are not checked)")


def _sqlite(uri: str, path: Path, advice: str) -> Finding:
    if not path.exists():
        writable = os.access(existing_parent(path.absolute()), os.W_OK)
        value = f"{uri}: not made yet" if writable else f"{uri}: its folder is not writable"
        return Finding("services", "tracking", "ok" if writable else "missing", value, "" if writable else advice)
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=TIMEOUT_SECONDS)
        try:
            runs = connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("services", "tracking", "missing", f"{uri}: {error}", advice)
    return Finding("services", "tracking", "ok", f"{uri}: {runs} runs")


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("services", "git", "missing", "not installed", "runs are then recorded without a commit")
    commit, changed = git_state(PROJECT_ROOT)
    if commit is None:
        return Finding("services", "git", "missing", "no checkout", "runs are then recorded without a commit")
    return Finding("services", "git", "ok", f"commit {commit[:10]}{' with changed files' if changed else ''}")


def _slurm() -> Finding:
    tools = {name: shutil.which(name) for name in ("sbatch", "sinfo", "sacct")}
    lacking = [name for name, path in tools.items() if path is None]
    if len(lacking) == len(tools):
        return Finding("services", "slurm", "missing", "not installed", "only a cluster's profile needs it")
    partitions = _output(["sinfo", "--noheader", "--format=%P"]) if tools["sinfo"] else None
    if partitions is None:
        return Finding("services", "slurm", "missing", "installed, but no controller answers", "ask `sinfo` why")
    value = f"partitions {' '.join(sorted(set(partitions.split())))}" + (
        f"; no {', '.join(lacking)}" if lacking else ""
    )
    return Finding("services", "slurm", "missing" if "sbatch" in lacking else "ok", value)


def _results() -> Finding:
    folder = results_folder()
    try:
        with tempfile.TemporaryFile(dir=existing_parent(folder)):
            return Finding("services", "results", "ok", f"{folder} can be written")
    except OSError as error:
        return Finding("services", "results", "broken", f"{folder}: {error.strerror}", "run from a folder of your own")


def _output(command: list[str]) -> str | None:
    """What ``command`` prints; None where it fails or takes too long."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.TimeoutExpired, OSError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
