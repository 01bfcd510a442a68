"""Pretraining over two nodes: ranks that find each other, one run in the books, and requeues that change no weight."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from dino_project import copy_project, environment
from slurm_harness import Slurm, until

pytestmark = pytest.mark.slow

STUDY = """\
title: Two nodes
paper: none
base: vits16_100ep
metrics: [knn.top1]
variants:
  both: {label: Both}
"""
STEPS = 150  # 30 epochs of 160 images in batches of 32


def two_node_project(folder: Path) -> Path:
    """A project whose scale pretrains on both nodes."""
    copy_project(folder)
    (folder / "ablations" / "two_nodes.yaml").write_text(STUDY, encoding="utf-8")
    scales = folder / "workflow" / "scales"
    scale = yaml.safe_load((scales / "smoke.yaml").read_text(encoding="utf-8"))
    scale["epochs"] = {0: 0, 100: 30, 800: 30}
    scale["resources"]["pretrain"] = {"threads": 1, "mem_mb": 950, "runtime": 10, "nodes": 2, "tasks_per_node": 1}
    (scales / "two_nodes.yaml").write_text(yaml.safe_dump(scale), encoding="utf-8")
    return folder


def start_ranks(folder: Path, config: Path, run_dir: Path) -> list[subprocess.Popen[bytes]]:
    """Start the same run as two processes of this machine, without any scheduler."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "dino", "pretrain", str(config), "--run-dir", str(run_dir), "--threads", "1"]
    return [
        subprocess.Popen(
            command, cwd=folder, env={
                **os.environ, **environment(folder), "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
            },
        )
        for rank in "01"
    ]  # fmt: skip


def steps(run_dir: Path) -> list[int]:
    """The steps of the journal's points."""
    journal = run_dir / "metrics.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def final_state(run_dir: Path) -> dict[str, Any]:
    """The final checkpoint, without what tells two runs of one configuration apart."""
    state: dict[str, Any] = torch.load(run_dir / "checkpoint.pth", map_location="cpu", weights_only=True)
    del state["elapsed_seconds"], state["mlflow_run_id"]
    return state


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_requeues_in_mid_training_over_two_nodes_leave_an_undisturbed_runs_weights(slurm: Slurm, tmp_path: Path):
    folder = two_node_project(tmp_path / "project")
    run = slurm.snakemake(
        folder, "--config", "scale=two_nodes", "studies=two_nodes", "--until", "pretrain", "all",
        environment=environment(folder),
    )  # fmt: skip
    (config,) = run.until(lambda: list(folder.glob("results/two_nodes/runs/*/config.yaml")), "the run has its settings")
    run.until((folder / "results/data/world-smoke/manifest.json").exists, "images are there")
    quiet, disturbed = tmp_path / "quiet", config.parent
    ranks = start_ranks(folder, config, quiet)

    run.until(lambda: max(steps(disturbed), default=0) > 10, "it trains")
    (job,) = slurm.running()
    assert slurm.command("squeue", "-h", "-j", job, "-o", "%N") == "n[1-2]"
    slurm.command("scontrol", "requeue", job)  # a pre-emption without notice: SIGTERM, then the job starts again
    run.until(lambda: job not in slurm.running(), "it has stopped")
    reached = max(steps(disturbed))
    assert reached < STEPS, "it was stopped before its end"
    run.until(lambda: max(steps(disturbed), default=0) > reached + 10, "it goes on")
    slurm.command("scancel", "--signal=USR2", job)  # with notice: it saves, leaves with 75 and is requeued
    run.succeed()
    assert [rank.wait(300) for rank in ranks] == [0, 0]

    assert steps(disturbed) == steps(quiet), "each point once"
    ended = final_state(quiet), final_state(disturbed)
    assert [(state["step"], state["world_size"]) for state in ended] == [(STEPS, 2)] * 2
    assert same(*ended)
    assert [path.name for path in (disturbed / "checkpoints").iterdir()] == [f"step-{STEPS:08d}.pth"]
    (log,) = disturbed.glob("logs/pretrain.log")
    assert "resuming" in log.read_text(encoding="utf-8")
    starts = ("sacct", "-X", "-n", "-P", "--duplicates", "-o", "State", "-j", job)
    until(lambda: len(slurm.command(*starts).splitlines()) == 3, "the accounts know of three starts", seconds=60)
    with sqlite3.connect(folder / "mlflow.db") as store:
        parents = "select run_uuid from tags where key = 'mlflow.parentRunId'"
        runs = store.execute(f"select status from runs where run_uuid not in ({parents})").fetchall()
    assert runs == [("FINISHED",)], "one run for all ranks and starts"
