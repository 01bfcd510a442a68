"""The project's own files agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def lock(project_root: Path) -> dict[str, str]:
    lines = (project_root / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(name): version.split()[0] for name, version in pins}


def test_lock_satisfies_every_declared_requirement(project_root: Path, lock: dict[str, str]) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, declared):
        version = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_lock_keeps_the_pins(project_root: Path, lock: dict[str, str]) -> None:
    for line in (project_root / "requirements.pins").read_text().splitlines():
        if pin := re.match(r"([\w.-]+)==([\w.]+)", line):
            assert lock[canonicalize_name(pin[1])] == pin[2]


def test_conda_environment_installs_the_same_lock(project_root: Path) -> None:
    document = yaml.safe_load((project_root / "environment.yml").read_text())
    python, *_ = [item for item in document["dependencies"] if isinstance(item, str) and item.startswith("python=")]
    (pip,) = [item["pip"] for item in document["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."], "packages beside the lock would drift from it"
    assert python == "python=3.11", "the lock is resolved for Python 3.11"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, dino.cli\n"
        "try: dino.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'mlflow', 'pandas', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_command_has_help_without_torch() -> None:
    from dino.cli import COMMANDS

    code = (
        "import sys, dino.cli\n"
        f"for name in {list(COMMANDS)!r}:\n"
        "    try: dino.cli.main([name, '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0, name\n"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_unknown_command_is_a_user_error(capsys: pytest.CaptureFixture[str]) -> None:
    from dino.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["pretrian"])
    assert stop.value.code == 2
    assert "pretrian" in capsys.readouterr().err


def test_no_source_file_names_the_workplace(project_root: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=project_root, capture_output=True, text=True, check=True)
    offending = []
    for name in tracked.stdout.split():
        path = project_root / name
        if path.suffix in {".py", ".md", ".smk", ".yaml", ".yml", ".toml", ".txt", ""} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            if re.search("/ro" + "ot/|/ho" + r"me/\w+/", text):
                offending.append(name)
    assert not offending, f"absolute paths of some machine in {offending}"


def test_every_shipped_data_set_is_described(project_root: Path) -> None:
    text = (project_root / "docs" / "data.md").read_text(encoding="utf-8")
    names = [path.stem for path in (project_root / "dino" / "datasets").glob("*.yaml")]
    assert names
    assert [name for name in names if f"`{name}`" not in text] == []
