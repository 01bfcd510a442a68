"""No pointer of this repository leads nowhere (what counts as one: pointers.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pointers
import pytest
from pointers import Code, Paper, Prose

GENERATED = "docs/expected/"
HISTORY = "CHANGELOG.md"
"""Speaks of files and names as they were."""
OTHERS_FILES = {"hubconf.py", "visualize_attention.py"}
"""Of the authors' code."""


@pytest.fixture(scope="module")
def files(project_root: Path) -> dict[str, str]:
    """The text of what people wrote here, by path."""
    suffixes = {".py", ".md", ".yaml", ".smk", ".json"}
    return {
        name: (project_root / name).read_text(encoding="utf-8")
        for name in pointers.tracked(project_root)
        if (Path(name).suffix in suffixes or name in {"Snakefile", "Makefile"})
        and (name.split("/")[0] in pointers.FOLDERS or "/" not in name)
        and not name.startswith(GENERATED)
    }


@pytest.fixture(scope="module")
def prose(files: dict[str, str]) -> list[Prose]:
    return [piece for path, text in files.items() if path != HISTORY for piece in pointers.prose_of(path, text)]


@pytest.fixture(scope="module")
def paper(files: dict[str, str]) -> Paper:
    return Paper(files["docs/paper.md"])


@pytest.fixture(scope="module")
def code(project_root: Path) -> Code:
    return Code(project_root)


def whole(files: dict[str, str], *suffixes: str) -> Iterator[Prose]:
    """The files of some kinds, strings and keys of code included."""
    return (Prose(path, 1, text) for path, text in files.items() if path.endswith(suffixes) and path != HISTORY)


def test_every_cited_section_of_the_paper_exists(files: dict[str, str], paper: Paper) -> None:
    wrong, count = [], 0
    for each in whole(files, ""):
        for match in pointers.CITATION.finditer(each.text):
            count += 1
            wrong += [f"{each.place(match)}: {label}" for label in paper.unknown(match[1])]
        labels = pointers.BARE_LABEL.finditer(each.text)
        wrong += [f"{each.place(match)}: {match[1]}" for match in labels if match[1] not in paper.labels]
    assert not wrong, "no such section in docs/paper.md:\n" + "\n".join(wrong)
    assert count > 150


def test_code_and_studies_cite_the_paper_with_a_section(files: dict[str, str]) -> None:
    wrong = []
    for each in whole(files, ".py", ".yaml", ".smk"):
        cited = {match.start() for match in pointers.CITATION.finditer(each.text)}
        mentions = re.finditer(r"(?<![\w/])paper\.md", each.text)
        wrong += [each.place(match) for match in mentions if match.start() not in cited]
    assert not wrong, f"'paper.md' without a section behind it: {wrong}"


def test_nothing_points_to_documents_that_are_not_here(files: dict[str, str], prose: list[Prose]) -> None:
    found = [(each, match) for each in whole(files, "") for match in pointers.OLD_CITATION.finditer(each.text)]
    found += [(each, match) for each in prose for match in pointers.OUR_ISSUE.finditer(each.text)]
    assert not found, "\n".join(f"{each.place(match)}: {match[0]!r}" for each, match in found)


def test_every_link_of_a_document_leads_somewhere(project_root: Path, files: dict[str, str]) -> None:
    expected = {
        path.relative_to(project_root).as_posix(): path.read_text(encoding="utf-8")
        for path in project_root.glob(f"{GENERATED}**/*.md")
    }
    wrong = [
        f"{each.place(match)}: {match[1]}"
        for each in whole({**files, **expected}, ".md")
        for match in pointers.LINK.finditer(each.text)
        if pointers.dead_link(project_root, each.path, match[1])
    ]
    assert not wrong, "dead links:\n" + "\n".join(wrong)


def test_every_named_file_exists(project_root: Path, prose: list[Prose]) -> None:
    known = {Path(name).name for name in pointers.tracked(project_root)} | OTHERS_FILES | {"test_references.py"}
    wrong = []
    for each in prose:
        paths = (m for m in pointers.PATH.finditer(each.text) if pointers.dead_path(project_root, m[0]))
        names = (m for m in pointers.FILE_NAME.finditer(each.text) if m[0] not in known)
        wrong += [f"{each.place(match)}: {match[0]}" for match in (*paths, *names)]
    assert not wrong, "no such file:\n" + "\n".join(wrong)


def test_every_named_module_class_and_function_exists(prose: list[Prose], code: Code) -> None:
    wrong = []
    for each in prose:
        dotted = [m for m in pointers.DOTTED.finditer(each.text) if not code.resolves(m[1])]
        names = pointers.NAME.finditer(each.text) if each.path.endswith(".py") else ()
        wrong += [f"{each.place(m)}: {m[0]}" for m in (*dotted, *(m for m in names if not code.knows(m[1])))]
    assert not wrong, "no such name in the code (values stand in double backticks):\n" + "\n".join(wrong)


def test_every_room_has_its_line_in_the_architecture(project_root: Path, files: dict[str, str]) -> None:
    section = files["docs/architecture.md"].partition("\n## Rooms\n")[2].partition("\n## ")[0]
    rooms = {"/".join(path.split("/")[:2]) for path in files if re.match(r"(dino|workflow)/\w+/.*\.(py|smk)$", path)}
    assert len(rooms) > 10
    missing = sorted(room for room in rooms if f"`{room}`" not in section and f"`{room}/" not in section)
    assert not missing, f"the table 'Rooms' of docs/architecture.md does not say what is in {missing}"


# --- what a wrong pointer is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("(paper.md, C.5)", []),
        ('# paper.md, A.8 "boost",\n# B.9. 16 GPUs', []),
        ("paper.md, C.5-C.8 and D.1 P13; Table 1", []),
        ("paper.md, F.12, A.1", []),
        ("paper.md, C.12", ["C.12"]),
        ("(paper.md, C.1,\n# C.44, Tables 2, 7)", ["C.44"]),
        ("paper.md, C.5-C.18", ["C.18"]),
        ('paper.md, A.8 "boots"', ['A.8 "boots"']),
        ("paper.md, D.1 P73", ["P73"]),
    ],
)
def test_citations_are_read_whole(text: str, wrong: list[str], paper: Paper) -> None:
    match = pointers.CITATION.search(text)
    assert match is not None
    assert paper.unknown(match[1]) == wrong


def test_the_paper_has_the_72_pretrainings(paper: Paper) -> None:
    assert len(paper.runs) == 72


@pytest.mark.parametrize("text", ["(protocols C.5)", "Protocol A.1", "protocols,\n# section", "protocols.md, B"])
def test_the_old_form_is_refused(text: str) -> None:
    assert bool(pointers.OLD_CITATION.search(text)) == ("section" not in text)


@pytest.mark.parametrize(
    ("text", "ours"),
    [("as the issue asks", True), ("this\n# issue", True), ("(issue #31)", False), ("the issue #31", False)],
)
def test_issues_are_the_authors(text: str, ours: bool) -> None:
    assert bool(pointers.OUR_ISSUE.search(text)) == ours


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("dino.config", True),
        ("dino.config.RunConfig.teacher_temp", True),
        ("dino.models.load_backbone", True),
        ("dino.objectives", True),
        ("workflow.planning.plan.make_plan", True),
        ("dino.config.RunConfig.teacher_tmp", False),
        ("dino.configs", False),
        ("dino.models.load_backbones", False),
        ("workflow.plan", False),
    ],
)
def test_names_are_looked_up_in_the_syntax_trees(name: str, exists: bool, code: Code) -> None:
    assert code.resolves(name) == exists


def test_names_without_their_module_are_found_too(code: Code) -> None:
    for name in ("RunConfig.epochs", "build_backbone", "state.step"):
        assert code.knows(name)
    for name in ("RunConfig.epoch", "build_backbones"):
        assert not code.knows(name)


def test_links_need_their_file_and_heading(project_root: Path) -> None:
    targets = [
        "architecture.md",
        "paper.md#c5-retrieval",
        "../README.md#words",
        "https://arxiv.org",
        "#verdicts-on-numbers",
    ]
    assert not [target for target in targets if pointers.dead_link(project_root, "docs/verdicts.md", target)]
    for target in ("nothing.md", "paper.md#c5", "#words"):
        assert pointers.dead_link(project_root, "docs/verdicts.md", target)


def test_paths_may_have_placeholders(project_root: Path) -> None:
    for path in ("dino/objectives/<name>.py", "ablations/*.yaml", "docs/architecture.md.", "docs/expected/NAME.md"):
        assert not pointers.dead_path(project_root, path)
    assert pointers.dead_path(project_root, "dino/objective/<name>.py")


def test_prose_is_docstrings_and_comments() -> None:
    source = 'x = "no prose"  # one\n# two\n\n# three\n\n\ndef f():\n    """Four."""\n'
    assert [(each.line, each.text) for each in pointers.prose_of("a.py", source)] == [
        (8, '    """Four."""'), (1, "# one\n# two"), (4, "# three"),
    ]  # fmt: skip
