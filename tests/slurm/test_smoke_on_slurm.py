"""The whole pipeline at the scale `smoke`, with the profile for clusters, gives the tables of a local run.

DINO_SLURM_STUDIES sets the studies (default: teacher; `headline` takes three times as long).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dino_project import copy_project, environment
from slurm_harness import Slurm

pytestmark = pytest.mark.slow

STUDIES = os.environ.get("DINO_SLURM_STUDIES", "teacher")
CONFIG = ("--config", "scale=smoke", f"studies={STUDIES}", "tracking=off")
MOST_SECONDS = 1800


def test_the_smoke_studies_give_byte_identical_tables_on_slurm_and_here(slurm: Slurm, tmp_path: Path):
    here, there = copy_project(tmp_path / "here"), copy_project(tmp_path / "there")
    run = slurm.snakemake(
        there, "--profile", "profiles/slurm", "--latency-wait", "20", *CONFIG, environment=environment(there)
    )
    # Meanwhile: a machine that waits for a scheduler has nothing else to do.
    local = subprocess.run(
        [sys.executable, "-m", "snakemake", *CONFIG],
        cwd=here, env={**os.environ, **environment(here)}, capture_output=True, text=True, timeout=MOST_SECONDS,
    )  # fmt: skip
    assert local.returncode == 0, local.stdout + local.stderr
    log = run.succeed(MOST_SECONDS)

    tables = sorted((here / "results/smoke/tables").iterdir())
    assert len(tables) >= 3
    for table in tables:
        assert (there / "results/smoke/tables" / table.name).read_bytes() == table.read_bytes(), table.name
    assert (there / "results/smoke/report/index.html").is_file()
    runs = sorted(path.parent.name for path in here.glob("results/smoke/runs/*/checkpoint.pth"))
    assert sorted(path.parent.name for path in there.glob("results/smoke/runs/*/checkpoint.pth")) == runs
    for rule in ("pretrain", "extract_features", "evaluate_knn"):
        assert len(slurm.jobs(rule, expected=len(runs))) == len(runs), f"each {rule} is one job"
    assert log.count("is slurm job") == 3 * len(runs) + 1, "tables, figures and the report are made here"
    assert not list((there / "slurm" / "tickets").iterdir()), "every job was accounted for"
