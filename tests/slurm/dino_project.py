"""This project in a folder of its own, for workflows that run on the cluster of the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def copy_project(folder: Path) -> Path:
    """Copy what a call of `snakemake` reads."""
    folder.mkdir(parents=True)
    shutil.copy2(ROOT / "Snakefile", folder)
    for name in ("workflow", "ablations", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Variables by which the copy's tracking store is used, and not the checkout's."""
    return {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
