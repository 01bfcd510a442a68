"""The profiles: what a bare `snakemake` and one with `--profile profiles/slurm` ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dino.registry import load_registry
from workflow.planning.plan import make_plan

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A project with a folder where each real data set would be, and a machine of two cores to plan on."""
    folder = tmp_path_factory.mktemp("cluster")
    shutil.copy2(project_root / "Snakefile", folder)
    for name in ("workflow", "ablations", "profiles"):
        shutil.copytree(project_root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    paths = {}
    for name, spec in load_registry().items():
        if spec.kind != "generated":
            (folder / "data" / name).mkdir(parents=True)
            paths[name] = f"data/{name}"
    (folder / "data-paths.yaml").write_text(yaml.safe_dump(paths), encoding="utf-8")
    return folder


def dry_run(folder: Path, *options: str) -> str:
    environment = os.environ | {"DINO_DATA_PATHS": str(folder / "data-paths.yaml")}
    command = [str(BIN / "snakemake"), "-n", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def resources(output: str, rule: str) -> list[dict[str, str]]:
    """What each job of a rule asks for, threads among it."""
    found = []
    for block in re.findall(rf"^rule {rule}:\n((?:    .*\n)+)", output, flags=re.MULTILINE):
        listed = re.search(r"^    resources: (.*)$", block, flags=re.MULTILINE)
        threads = re.search(r"^    threads: (.*)$", block, flags=re.MULTILINE)
        assert listed is not None
        pairs = dict(pair.split("=", 1) for pair in listed[1].split(", "))
        found.append(pairs | {"threads": threads[1] if threads else "1"})
    return found


@pytest.fixture(scope="module")
def paper(cluster: Path) -> str:
    """The dry run of everything at the paper's scale, with a copy of the profile in which the examples are in force."""
    text = (cluster / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    own, examples = text.split("# default-resources:")
    examples = re.sub(r"^# ( *[a-z_-]+:)", r"\1", f"# default-resources:{examples}", flags=re.MULTILINE)
    (cluster / "mine").mkdir()
    (cluster / "mine" / "config.yaml").write_text(own + examples, encoding="utf-8")
    return dry_run(cluster, "--profile", "mine", "--config", "scale=paper", "studies=all")


def test_the_slurm_profile_plans_every_job_of_every_study(cluster: Path, project_root: Path):
    output = dry_run(
        cluster, "--profile", "profiles/slurm", "--quiet", "rules", "--config", "scale=paper", "studies=all"
    )
    counts = Counter({name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)})
    plan = make_plan(scale="paper", studies="all", root=project_root, assume_data=True)
    trained = [run for run in plan.runs.values() if run.config is not None]
    assert counts["pretrain"] == len(trained)
    assert counts["make_table"] == len(plan.studies)
    assert counts["evaluate_linear"] > 0


def test_gpus_and_threads_are_the_scales_and_not_bounded_by_the_login_node(paper: str):
    found = resources(paper, "pretrain")
    gpus = Counter(int(job["nodes"]) * int(job["gpu"]) for job in found)
    assert gpus[16] > gpus.total() / 2
    assert {1, 8, 16, 32, 64, 80, 176} <= set(gpus)
    assert {job["threads"] for job in resources(paper, "evaluate_linear")} == {"10"}


def test_examples_of_the_profile_are_in_force_once_uncommented(paper: str):
    for job in resources(paper, "pretrain"):
        assert (job["slurm_partition"], job["slurm_account"], job["runtime"]) == ("gpu", "lab", "1440")
        assert job["threads"] == "5"
    assert {job["slurm_partition"] for job in resources(paper, "evaluate_knn")} == {"short"}
