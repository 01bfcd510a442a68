"""Who imports whom: the table of docs/architecture.md, no circle, and rooms of a size that can be taken in.

Every import counts: those inside functions too, and those for types alone.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PLUGINS = "workflow/plugins/"
"""On the path beside the project, so that what lies there is imported without it."""
MOST_MODULES = 12
MOST_LINES = 350

Graph = Mapping[str, set[str]]
"""The files that each file imports; both as paths in the project."""


@pytest.fixture(scope="module")
def graph(project_root: Path) -> Graph:
    paths = [path for top in ("dino", "workflow") for path in sorted((project_root / top).rglob("*.py"))]
    names = {dotted(str(path.relative_to(project_root))): str(path.relative_to(project_root)) for path in paths}
    return {
        file: {names[module] for module in imported((project_root / file).read_text(encoding="utf-8"), file, names)}
        for file in names.values()
    }


def dotted(file: str) -> str:
    """The name by which a file is imported."""
    return file.removeprefix(PLUGINS).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(source: str, file: str, modules: Iterable[str]) -> Iterator[str]:
    """Those of ``modules`` that the code of ``file`` imports."""
    package = dotted(file) if file.endswith("/__init__.py") else dotted(file).rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) + 1 - node.level] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            wanted = [f"{home}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in wanted:
            yield from [module for module in (name, name.rpartition(".")[0]) if module in modules][:1]


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import dino.config
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from dino.files import write_json
def run():
    from dino import registry
    from . import sibling
    from ..models.vit import VisionTransformer
"""
    modules = [
        "dino",
        "dino.config",
        "dino.files",
        "dino.registry",
        "dino.data.sibling",
        "dino.models.vit",
        "dino.data",
    ]
    found = set(imported(source, "dino/data/loader.py", modules))
    assert found == {"dino.config", "dino.files", "dino.registry", "dino.data.sibling", "dino.models.vit"}


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(project_root: Path) -> dict[str, list[str]]:
    """What the files of each row may import, as docs/architecture.md says."""
    text = (project_root / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("### Allowed imports\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `([^`|]+)` \| (.+) \|$", section, flags=re.MULTILINE)
    assert rows
    return {files: re.findall(r"`([^`]+)`", targets) for files, targets in rows}


def covers(pattern: str, file: str) -> bool:
    """Whether ``pattern`` speaks of ``file``: a file, a folder with all below it, or the files of a folder alone."""
    if pattern.endswith("/"):
        return file.startswith(pattern)
    if pattern.endswith("/*.py"):
        return str(Path(file).parent) == pattern.removesuffix("/*.py")
    return file == pattern


def row_of(file: str, table: Iterable[str]) -> str:
    """The row that speaks of ``file`` the most closely."""
    return max((row for row in table if covers(row, file)), key=lambda row: (row == file, row.removesuffix("*.py")))


def test_the_nearest_row_counts() -> None:
    rows = ["dino/*.py", "dino/cli.py", "dino/evaluation/", "dino/evaluation/features/"]
    assert row_of("dino/files.py", rows) == "dino/*.py"
    assert row_of("dino/cli.py", rows) == "dino/cli.py"
    assert row_of("dino/evaluation/knn/protocol.py", rows) == "dino/evaluation/"
    assert row_of("dino/evaluation/features/files.py", rows) == "dino/evaluation/features/"


def test_each_file_imports_what_the_table_allows_and_nothing_is_allowed_in_vain(
    graph: Graph, table: dict[str, list[str]]
) -> None:
    wrong, used = [], defaultdict(set)
    for file, targets in graph.items():
        row = row_of(file, table)
        for other in sorted(targets):
            home = row_of(other, table)
            if home == row:
                continue
            allowed = [
                target for target in table[row] if target == home or (covers(target, other) and target not in table)
            ]
            used[row].update(allowed)
            if not allowed:
                wrong.append(f"{file} imports {other}")
    assert not wrong, f"not allowed by docs/architecture.md, 'Allowed imports': {wrong}"
    idle = [f"{row}: {target}" for row, targets in table.items() for target in targets if target not in used[row]]
    assert not idle, f"allowed by docs/architecture.md, 'Allowed imports', and used by nothing: {idle}"


def test_no_protocol_imports_another(graph: Graph) -> None:
    from dino.cli import COMMANDS

    def protocol(file: str) -> str | None:
        name = Path(file).with_suffix("").parts[2] if file.startswith("dino/evaluation/") else ""
        return name if name in COMMANDS and name != "features" else None

    crossing = [
        f"{file} imports {other}"
        for file, targets in graph.items()
        for other in sorted(targets)
        if protocol(file) and protocol(other) and protocol(file) != protocol(other)
    ]
    assert {protocol(file) for file in graph} >= {"knn", "linear", "tsne"}
    assert not crossing


# --- circles ----------------------------------------------------------------------------------------------------------


def circles(graph: Graph) -> list[set[str]]:
    """The files that import each other in a loop (Tarjan's strongly connected components of more than one)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(file: str) -> None:
        order[file] = low[file] = len(order)
        path.append(file)
        for other in graph[file]:
            if other not in order:
                visit(other)
            if other in path:
                low[file] = min(low[file], low[other])
        if low[file] == order[file]:
            loop = set(path[path.index(file) :])
            del path[path.index(file) :]
            if len(loop) > 1:
                found.append(loop)

    for file in graph:
        if file not in order:
            visit(file)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [{"b", "c"}]


def test_no_modules_import_each_other_in_a_circle(graph: Graph) -> None:
    assert circles(graph) == []


# --- sizes and names --------------------------------------------------------------------------------------------------


def test_no_folder_has_more_modules_than_can_be_taken_in(graph: Graph) -> None:
    counts = Counter(str(Path(file).parent) for file in graph if not file.endswith("/__init__.py"))
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_no_file_is_longer_than_can_be_read_at_once(graph: Graph, project_root: Path) -> None:
    lengths = {file: len((project_root / file).read_text(encoding="utf-8").splitlines()) for file in graph}
    assert {file: count for file, count in lengths.items() if count > MOST_LINES} == {}


def test_no_two_classes_of_the_workflow_and_its_executor_have_one_name(graph: Graph, project_root: Path) -> None:
    places = defaultdict(list)
    for file in graph:
        if file.startswith("workflow/"):
            for node in ast.walk(ast.parse((project_root / file).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(file)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
