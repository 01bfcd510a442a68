"""What the tests do with the cluster: run workflows on it, look at its jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Run:
    """A Snakemake under way."""

    process: subprocess.Popen[str]
    directory: Path
    log: Path

    def wait(self, seconds: float = 120) -> str:
        """Return all that it printed, once it has ended."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"Snakemake still runs after {seconds} s:\n{self.log.read_text()}") from None
        return self.log.read_text()

    def succeed(self, seconds: float = 120) -> str:
        text = self.wait(seconds)
        assert self.process.returncode == 0, text
        return text

    def fail(self, seconds: float = 120) -> str:
        text = self.wait(seconds)
        assert self.process.returncode == 1, text
        return text


@dataclass
class Slurm:
    """How to reach the cluster and run workflows on it."""

    environment: dict[str, str]
    folder: Path
    slurmd: dict[str, int]
    runs: list[Run] = field(default_factory=list)
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))

    def command(self, *words: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()

    def snakemake(
        self, directory: Path, *options: str, snakefile: str | None = None, environment: dict[str, str] | None = None
    ) -> Run:
        """Start Snakemake in a directory, in a session of its own."""
        if snakefile is not None:
            (directory / "Snakefile").write_text(textwrap.dedent(snakefile))
        log = directory / f"snakemake-{len(self.runs)}.out"
        command = [
            sys.executable, "-m", "snakemake", "--executor", "submitit", "--submitit-cluster", "slurm", "--jobs", "8",
            "--seconds-between-status-checks", "1", "--submitit-accounting-interval", "1", "--rerun-incomplete",
            "--submitit-folder", "slurm", "--nocolor", *options,
        ]  # fmt: skip
        with log.open("w") as out:
            process = subprocess.Popen(
                command, cwd=directory, stdout=out, stderr=out, stdin=subprocess.DEVNULL, text=True,
                env={**os.environ, **self.environment, **(environment or {})}, start_new_session=True,
            )  # fmt: skip
        run = Run(process, directory, log)
        self.runs.append(run)
        return run

    def jobs(self, *names: str) -> list[dict[str, str]]:
        """Return sacct's lines of the jobs whose rule has one of these names."""
        columns = "JobID,JobName,State,ExitCode,AllocTRES,TimelimitRaw,NodeList"
        listed = self.command("sacct", "-X", "-n", "-P", "-o", columns, "-S", self.began)
        lines = [dict(zip(columns.split(","), line.split("|"), strict=True)) for line in listed.splitlines()]
        return [line for line in lines if line["JobName"].rpartition("-")[0] in names]

    def running(self) -> list[str]:
        """Return the ids of the jobs that run, array tasks one by one."""
        return self.command("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i").split()


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for a condition and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value
