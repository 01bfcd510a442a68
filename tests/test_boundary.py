"""`dino` alone: a copy of that folder, on a path where `workflow` is not, knows its data sets and trains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ABSENT = "raise ModuleNotFoundError('dino imports workflow')\n"

IMPORT_ALL = """
import importlib, pkgutil, dino
names = [module.name for module in pkgutil.walk_packages(dino.__path__, "dino.") if module.name != "dino.__main__"]
for name in names:
    importlib.import_module(name)
print(dino.__file__, len(names))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A folder with `dino` and a module `workflow` that refuses to be imported."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(project_root / "dino", folder / "dino", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "workflow.py").write_text(ABSENT)
    return folder


def python(alone: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(alone), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("DINO_DATASETS", "DINO_DATA_PATHS", "DINO_GENERATED_DATA"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, *arguments], cwd=alone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_module_can_be_imported(alone: Path) -> None:
    place, count = python(alone, "-c", IMPORT_ALL).split()
    assert Path(place) == alone / "dino" / "__init__.py"
    assert int(count) > 150


def test_its_data_sets_and_recipes_are_there(alone: Path, project_root: Path) -> None:
    code = "from dino.registry import load_registry; from dino.config import load_recipe; print(*load_registry())"
    names = python(alone, "-c", f"{code}; load_recipe('vits16_100ep')").split()
    assert sorted(names) == sorted(path.stem for path in (project_root / "dino" / "datasets").glob("*.yaml"))


@pytest.mark.slow
def test_it_generates_a_data_set_trains_on_it_and_evaluates(alone: Path) -> None:
    assert "pretrain" in python(alone, "-m", "dino", "--help")
    python(alone, "-m", "dino", "generate", "world-smoke")
    settings = ["arch=vit_nano", "patch_size=8", "global_crop_size=16", "local_crop_size=8", "num_local_crops=1"]
    settings += ["batch_size=4", "epochs=1", "warmup_epochs=0", "out_dim=16", "head_hidden_dim=16"]
    settings += ["head_bottleneck_dim=8", "warmup_teacher_temp_epochs=0"]
    changes = [word for setting in settings for word in ("--set", setting)]
    python(
        alone, "-m", "dino", "pretrain", "--recipe", "vits16_100ep", "--data", "world-smoke", *changes, "--run-dir", "r"
    )
    options = ["--checkpoint", "r/checkpoint.pth", "--data", "world-smoke", "--output", "knn.json"]
    python(alone, "-m", "dino", "knn", *options)
    assert json.loads((alone / "knn.json").read_text())["data"]["name"] == "world-smoke"


def test_the_doctor_asks_no_studies_where_there_are_none(alone: Path) -> None:
    assert "services" in python(alone, "-m", "dino", "doctor")


def test_its_tests_import_nothing_of_the_workflow(project_root: Path) -> None:
    files = sorted((project_root / "tests" / "dino").rglob("*.py"))
    wanted = re.compile(r"^\s*(?:from|import) (?:workflow|snakemake|tests\.workflow)\b", flags=re.MULTILINE)
    assert [str(file) for file in files if wanted.search(file.read_text(encoding="utf-8"))] == []
    assert len(files) > 100
