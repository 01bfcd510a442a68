"""A protocol added by the four files of CONTRIBUTING runs from a study to its table, with nothing else touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

ENTRY = """
        Protocol(
            name="norm",
            title="norm",
            help="mean length of the features",
            reads="features",
            resources_of="knn",
            metrics={"mean": Metric("mean length", unit="", better="neither")},
        ),
"""

MODULE = '''
"""``dino norm``: the mean length of a network's features."""


def add_arguments(parser):
    from dino.evaluation.runtime import add_pair_arguments, add_runtime_arguments

    add_pair_arguments(parser)
    parser.add_argument("--output", required=True)
    add_runtime_arguments(parser)


def run(options):
    import numpy as np

    from dino.evaluation.document import describe_pair
    from dino.evaluation.features.pairs import read_pair
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import Measure, write_metrics

    device = set_up_torch(options.device, options.threads)
    pair = read_pair(options)
    length = float(np.linalg.norm(pair.train.features, axis=1).mean())
    metrics = {"mean": Measure(value=length, unit="")}
    document = describe_pair("norm", pair, metrics, chance=None, settings={}, device=device, notes=[])
    write_metrics(options.output, document)
'''

STUDY = """
title: Lengths
paper: none
base: vits16_100ep
metrics: [norm.mean, rank.effective_rank]
variants:
  random: {label: Random weights, set: {epochs: 0}}
claims:
  - {say: "Features of random weights are not all zero", check: "random.norm.mean > 0", source: project check}
"""


def insert(path: Path, before: str, text: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{before!r} stands {source.count(before)} times in {path.name}"
    path.write_text(source.replace(before, text.lstrip("\n") + before), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path, project_root: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy2(project_root / "Snakefile", folder)
    for name in ("dino", "workflow", "ablations", "profiles"):
        shutil.copytree(project_root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
def test_a_protocol_of_four_files_runs_from_study_to_table(checkout: Path) -> None:
    insert(checkout / "dino/protocols/__init__.py", '        Protocol(\n            name="rank",\n', ENTRY)
    (checkout / "dino/evaluation/norm.py").write_text(MODULE.lstrip("\n"), encoding="utf-8")
    insert(checkout / "workflow/evaluations.yaml", "rank: {", "norm: {protocol: norm, dataset: imagenet}\n")
    # The fourth, its line in docs/methods.md, is for readers.
    (checkout / "ablations/lengths.yaml").write_text(STUDY, encoding="utf-8")
    path = os.pathsep.join([str(checkout), str(checkout / "workflow" / "plugins")])
    done = subprocess.run(
        [str(BIN / "snakemake"), "--cores", "2", "--config", "scale=smoke", "studies=lengths", "tracking=off"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": path, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (metrics,) = (checkout / "results/smoke/runs").glob("*/metrics/norm.json")
    length = json.loads(metrics.read_text(encoding="utf-8"))["metrics"]["mean"]["value"]
    assert length > 0
    table = (checkout / "results/smoke/tables/lengths.md").read_text(encoding="utf-8")
    assert "mean length" in table
    assert "effective rank" in table
    assert "**holds**" in table
    help_text = subprocess.run(
        [sys.executable, "-m", "dino", "--help"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mean length of the features" in help_text.stdout
