"""Random kills of Snakemake, jobs and nodes while workflows run: all finish, with the results of quiet runs.

DINO_SLURM_KILLS sets how many (default 6); DINO_SLURM_SEED which.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from slurm_harness import Slurm
from test_executor_on_slurm import COUNTER, lose_node, write_program

pytestmark = pytest.mark.slow

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


def test_random_kills_lose_nothing(slurm_alone: Slurm, tmp_path: Path) -> None:
    slurm = slurm_alone
    kills, seed = int(os.environ.get("DINO_SLURM_KILLS", "6")), int(os.environ.get("DINO_SLURM_SEED", "0"))
    choose = random.Random(seed)
    history: list[str] = []
    workflow = 0
    while len(history) < kills:
        directory = tmp_path / str(workflow)
        directory.mkdir()
        write_program(directory, "count.py", COUNTER)
        (directory / "Snakefile").write_text(SNAKEFILE)
        workflow += 1
        finish_under_fire(slurm, directory, choose, history, kills)
        assert (directory / "sum").read_text() == EXPECTED, history
        assert not list((directory / "slurm" / "tickets").glob("*.json")), history


def finish_under_fire(slurm: Slurm, directory: Path, choose: random.Random, history: list[str], kills: int) -> None:
    """Run the workflow to its end, killing on the way."""
    run = slurm.snakemake(directory, "--retries", "5", "--keep-going")
    deadline = time.monotonic() + 300 + 60 * kills
    while True:
        assert time.monotonic() < deadline, (history, run.log.read_text())
        try:
            run.process.wait(timeout=choose.uniform(2, 8))
        except subprocess.TimeoutExpired:
            begun = "Select jobs" in run.log.read_text()  # else a slow machine would never get beyond the start
            if begun and len(history) < kills:
                history.append(kill_something(slurm, run.process, choose))
            continue
        if run.process.returncode == 0:
            return
        assert run.process.returncode == -signal.SIGKILL, (history, run.log.read_text())
        slurm.snakemake(directory, "--unlock").succeed()
        run = slurm.snakemake(directory, "--retries", "5", "--keep-going")


def kill_something(slurm: Slurm, snakemake: subprocess.Popen[str], choose: random.Random) -> str:
    """Kill Snakemake (half of the time), a job's process, or a node; return what was killed."""
    what = choose.choice(["snakemake", "snakemake", "job", "node"])
    busy = slurm.command("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()
    if what == "node" and busy:
        node = choose.choice(sorted(set(busy)))
        lose_node(slurm, node)
        (slurm.folder / f"revive-{node}").touch()
        return f"node {node}"
    if what == "job":
        marker = slurm.environment["SLURM_CONF"]
        victims = []
        for process in psutil.process_iter(["cmdline", "pid"]):
            try:
                if "count.py" in str(process.info["cmdline"]) and process.environ().get("SLURM_CONF") == marker:
                    victims.append(process)
            except psutil.Error:
                continue
        if victims:
            victim = choose.choice(victims)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
            return f"job process {victim.pid}"
    snakemake.kill()
    return "snakemake"
