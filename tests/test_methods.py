"""docs/methods.md has a line for everything that a configuration or command can name, and for nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from dino.config import RECIPES, RunConfig, objective_names
from dino.objectives.factory import OBJECTIVES
from dino.protocols import PROTOCOLS
from dino.released import RELEASED


def choices(field: str) -> set[str]:
    """What a field of `RunConfig` may be."""
    return set(get_args(RunConfig.model_fields[field].annotation))


@pytest.fixture(scope="module")
def tables(project_root: Path) -> dict[str, list[str]]:
    """The rows of each section's first table, by the section's title; headings are left out."""
    text = (project_root / "docs" / "methods.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        title, *lines = section.splitlines()
        start = lines.index(next(line for line in lines if line.startswith("|---")))
        rows = lines[start + 1 :]
        found[title] = rows[: next((i for i, line in enumerate(rows) if not line.startswith("|")), len(rows))]
    return found


def names(row: str) -> list[str]:
    """What a row's first cell names."""
    return re.findall(r"`([^`]+)`", row.split("|")[1])


@pytest.mark.parametrize(
    ("title", "known"),
    [
        ("Objectives", set(objective_names())),
        ("Centring and what takes its place", choices("centering")),
        ("Teachers", choices("teacher")),
        ("Backbones and heads", choices("arch")),
        ("Optimizers", choices("optimizer")),
        ("Protocols", set(PROTOCOLS)),
        ("Recipes", {path.stem for path in RECIPES.glob("*.yaml")}),
        ("Released weights", set(RELEASED)),
    ],
)
def test_every_method_has_its_line(title: str, known: set[str], tables: dict[str, list[str]]) -> None:
    listed = [name for row in tables[title] for name in names(row)]
    assert sorted(listed) == sorted(known)


def test_lines_lead_to_the_file_of_the_method(tables: dict[str, list[str]]) -> None:
    for row in tables["Objectives"]:
        (name,) = names(row)
        if name in OBJECTIVES:
            module = OBJECTIVES[name].partition(":")[0].replace(".", "/")
            assert f"(../{module}.py)" in row
    for row in tables["Recipes"]:
        (name,) = names(row)
        assert f"(../dino/recipes/{name}.yaml)" in row


def test_every_line_has_a_source(tables: dict[str, list[str]]) -> None:
    for title, rows in tables.items():
        for row in rows:
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert all(cells), f"an empty cell in '{title}': {row}"
            assert title == "Released weights" or re.search(r"paper\.md#|this project|assumption|likewise", row), row
