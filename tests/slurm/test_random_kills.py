"""Random kills of Snakemake, jobs and nodes while workflows run: all finish, with the results of quiet runs.

DINO_SLURM_KILLS sets how many (default 3), DINO_SLURM_SEED which. Where the first is set, as many hit this project's
smoke scale, too.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dino_project import copy_project, environment
from slurm_harness import Run, Slurm
from test_executor_on_slurm import COUNTER, lose_node, revive, write_program

pytestmark = pytest.mark.slow

ASKED = os.environ.get("DINO_SLURM_KILLS")
KILLS = int(ASKED or 3)
SEED = int(os.environ.get("DINO_SLURM_SEED", "0"))
KILLS_PER_DAG = 10  # then it is left alone and ends: many workflows are hit, at all of their stages
LONGEST_DAG_S = 1800

SNAKEFILE = """
rule all:
    input: "sum"
rule count:
    output: "count/{i}"
    resources: mem_mb=100
    shell: "python3 count.py state-{wildcards.i} 40 {output}; echo {wildcards.i} $(cat state-{wildcards.i}) > {output}"
rule square:
    input: "count/{i}"
    output: "square/{i}"
    resources: mem_mb=100
    shell: "read i n < {input}; sleep 1; echo $((i * i * n)) > {output}"
rule sum:
    input: expand("square/{i}", i=range(5))
    output: "sum"
    resources: mem_mb=100
    shell: "cat {input} > {output}"
"""
EXPECTED = "".join(f"{i * i * 40}\n" for i in range(5))

SMOKE = ("--config", "scale=smoke", "studies=teacher", "tracking=off")


def test_random_kills_lose_nothing(slurm_alone: Slurm, tmp_path: Path) -> None:
    siege = Siege(slurm_alone, program="count.py", every=(2, 8))
    for directory in siege.folders(tmp_path):
        directory.mkdir()
        write_program(directory, "count.py", COUNTER)
        (directory / "Snakefile").write_text(SNAKEFILE)
        siege.finish(directory)
        assert (directory / "sum").read_text() == EXPECTED, siege.history
        assert not list((directory / "slurm" / "tickets").glob("*.json")), siege.history


@pytest.mark.skipif(not ASKED, reason="takes an hour; DINO_SLURM_KILLS=50 asks for it")
def test_random_kills_change_no_table_of_the_smoke_scale(slurm_alone: Slurm, tmp_path: Path) -> None:
    quiet = copy_project(tmp_path / "quiet")
    command = [sys.executable, "-m", "snakemake", *SMOKE]
    subprocess.run(command, cwd=quiet, env={**os.environ, **environment(quiet)}, check=True)
    expected = results(quiet)
    siege = Siege(slurm_alone, program="dino", every=(10, 40), options=SMOKE)
    for directory in siege.folders(tmp_path):
        siege.finish(copy_project(directory))
        assert results(directory) == expected, siege.history
        assert not list((directory / "slurm" / "tickets").glob("*.json")), siege.history
        print(f"{len(siege.history)} kills: {dict(Counter(kind.split()[0] for kind in siege.history))}", flush=True)


def results(folder: Path) -> dict[str, bytes]:
    """The tables of a finished call, by name."""
    return {path.name: path.read_bytes() for path in (folder / "results/smoke/tables").iterdir()}


class Siege:
    """Workflows on the cluster, and somebody who kills at random."""

    def __init__(
        self, slurm: Slurm, *, program: str, every: tuple[float, float], options: tuple[str, ...] = ()
    ) -> None:
        self.slurm, self.program, self.every, self.options = slurm, program, every, options
        self.choose = random.Random(SEED)
        self.history: list[str] = []

    def folders(self, parent: Path) -> Iterator[Path]:
        """Folders for workflows, as many as all kills take."""
        number = 0
        while len(self.history) < KILLS:
            yield parent / str(number)
            number += 1

    def finish(self, directory: Path) -> None:
        """Run the workflow to its end, killing on the way."""
        run = self._start(directory)
        deadline = time.monotonic() + LONGEST_DAG_S
        most = min(KILLS, len(self.history) + KILLS_PER_DAG)
        while True:
            assert time.monotonic() < deadline, (self.history, run.log.read_text())
            try:
                run.process.wait(timeout=self.choose.uniform(*self.every))
            except subprocess.TimeoutExpired:
                # Only while it has jobs: else a slow machine would never get beyond the start, or the tables at last.
                tickets = list((directory / "slurm" / "tickets").glob("*.json"))
                busy = "Select jobs" in run.log.read_text() and tickets
                if busy and len(self.history) < most:
                    self.history.append(self._kill_something(run.process))
                continue
            if run.process.returncode == 0:
                return
            assert run.process.returncode == -signal.SIGKILL, (self.history, run.log.read_text())
            self.slurm.snakemake(directory, "--unlock", environment=environment(directory)).succeed()
            run = self._start(directory)

    def _start(self, directory: Path) -> Run:
        options = ("--retries", "9", "--keep-going", *self.options)
        return self.slurm.snakemake(directory, *options, environment=environment(directory))

    def _kill_something(self, snakemake: subprocess.Popen[str]) -> str:
        """Kill Snakemake (half of the time), a job's process, or a node; return what was killed."""
        what = self.choose.choice(["snakemake", "snakemake", "job", "node"])
        busy = self.slurm.command("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()
        if what == "node" and busy:
            node = self.choose.choice(sorted(set(busy)))
            lose_node(self.slurm, node)
            revive(self.slurm, node)
            return f"node {node}"
        victims = self._job_processes() if what == "job" else []
        if victims:
            victim = self.choose.choice(victims)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
            return f"job process {victim.pid}"
        snakemake.kill()
        return "snakemake"

    def _job_processes(self) -> list[psutil.Process]:
        """The commands of jobs that run on this cluster."""
        found, marker = [], self.slurm.environment["SLURM_CONF"]
        for process in psutil.process_iter(["cmdline"]):
            try:
                words = [Path(word).name for word in process.info["cmdline"] or []]
                if self.program in words and process.environ().get("SLURM_CONF") == marker:
                    found.append(process)
            except psutil.Error:
                continue
        return found
