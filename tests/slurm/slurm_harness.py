"""What the tests do with the cluster: run workflows on it, look at its jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 300  # on a machine that is busy with other tests
ACCOUNTS_S = 60  # how long slurmdbd may take to hear of a job, on a busy machine
BUSY = re.compile("timed out|Unable to contact|Connection refused|Socket", re.IGNORECASE)


@dataclass
class Run:
    """A Snakemake under way."""

    process: subprocess.Popen[str]
    directory: Path
    log: Path

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
        """Wait for a condition while it runs, and return the condition's value."""

        def met() -> Any:
            ended = self.process.poll() is not None  # before the look: what it did last counts
            value = condition()
            assert value or not ended, f"Snakemake has ended before this: {what}\n{self.log.read_text()}"
            return value

        try:
            return until(met, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None

    def wait(self, seconds: float = PATIENCE_S) -> str:
        """Return all that it printed, once it has ended."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"Snakemake still runs after {seconds} s:\n{self.log.read_text()}") from None
        return self.log.read_text()

    def succeed(self, seconds: float = PATIENCE_S) -> str:
        text = self.wait(seconds)
        assert self.process.returncode == 0, text
        return text

    def fail(self, *words: str) -> str:
        """Return all that it printed, once it has failed with these words among it."""
        text = self.wait()
        assert self.process.returncode == 1, text
        for one in words:
            assert one in text, f"{one!r} is not in what Snakemake printed:\n{text}"
        return text


@dataclass
class Slurm:
    """How to reach the cluster and run workflows on it. Of its jobs only those from below ``home`` are looked at."""

    environment: dict[str, str]
    folder: Path
    home: Path
    runs: list[Run] = field(default_factory=list)
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))

    def command(self, *words: str) -> str:
        """Return what one of Slurm's commands prints; asks again where a busy controller does not answer."""
        environment = {**os.environ, **self.environment}
        for attempt in range(5):
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=180, check=False)
            if done.returncode == 0 or not BUSY.search(done.stderr):
                break
            time.sleep(2**attempt)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

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

    def jobs(self, name: str, expected: int = 1) -> list[dict[str, str]]:
        """Return sacct's lines of the jobs of a rule, which have all ended.

        The accounts hear of a job's start and end a moment after the cluster: gives them a while for ``expected`` jobs.
        """
        patience = time.monotonic() + ACCOUNTS_S
        while True:
            lines = self._accounted(name)
            ended = [line for line in lines if not line["State"].startswith(("PENDING", "RUNNING", "REQUEUED"))]
            if (len(ended) >= expected and len(ended) == len(lines)) or time.monotonic() > patience:
                return lines
            time.sleep(0.3)

    def _accounted(self, name: str) -> list[dict[str, str]]:
        columns = "JobID,JobName,State,ExitCode,AllocTRES,TimelimitRaw,NodeList,WorkDir"
        listed = self.command("sacct", "-X", "-n", "-P", "-o", columns, "-S", self.began)
        lines = [dict(zip(columns.split(","), line.split("|"), strict=True)) for line in listed.splitlines()]
        return [line for line in lines if line["JobName"].rpartition("-")[0] == name and self._mine(line["WorkDir"])]

    def running(self) -> list[str]:
        """Return the ids of the jobs that run, array tasks one by one."""
        return self.queued("-t", "RUNNING")

    def queued(self, *selection: str) -> list[str]:
        """Return the ids of the jobs in the queue, array tasks one by one."""
        listed = self.command("squeue", "-h", "-r", "-o", "%i|%Z", *selection).splitlines()
        return [line.partition("|")[0] for line in listed if self._mine(line.partition("|")[2])]

    def idle_nodes(self) -> int:
        """Return how many nodes are up and have nothing to do."""
        return len(self.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def _mine(self, folder: str) -> bool:
        return Path(folder).is_relative_to(self.home)


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """Wait for a condition and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value
