"""A project folder to edit: the studies, scales and settings of this checkout, copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workflow.inputs.studies import Study, load_study, study_names


@pytest.fixture(scope="session")
def studies(project_root: Path) -> dict[str, Study]:
    """The studies of this checkout, by name."""
    folder = project_root / "ablations"
    return {name: load_study(folder / f"{name}.yaml") for name in study_names(folder)}


@pytest.fixture
def project(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a plan reads, as the working directory; no real data set has a path there."""
    folder = tmp_path / "project"
    shutil.copytree(project_root / "ablations", folder / "ablations")
    shutil.copytree(project_root / "workflow" / "scales", folder / "workflow" / "scales")
    shutil.copy(project_root / "workflow" / "config.yaml", folder / "workflow" / "config.yaml")
    (folder / "data-paths.yaml").write_text("", encoding="utf-8")
    monkeypatch.setenv("DINO_DATA_PATHS", str(folder / "data-paths.yaml"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def edit(project: Path):
    """Replace one text of a project file by another, which must be there exactly once."""

    def edit(name: str, old: str, new: str) -> Path:
        path = project / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return edit
