"""What the prose of this repository points to: sections of docs/paper.md, links, files, names of the code.

Prose is a Markdown file, a docstring or a comment. Nothing is imported: names are looked up in the syntax trees.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("ablations", "benchmarks", "dino", "docs", "profiles", "tests", "workflow")
"""Where people write. A path into another folder (`results/`, the authors' code) is not this repository's."""

BREAK = r"(?:[ \t]*\n[ \t]*(?:#[ \t]*)?|[ \t]+)"
"""Between two words, also where a comment goes on in the next line."""
LABEL = rf'[A-H](?:\.\d+)?(?!\w)(?:{BREAK}"[^"\n]+"|{BREAK}P\d\d)?'
CITATION = re.compile(rf"paper\.md,{BREAK}({LABEL}(?:(?:,{BREAK}|{BREAK}and{BREAK}|-){LABEL})*)")
BARE_LABEL = re.compile(r"(?<![\w./-])(?<!App\. )([A-H]\.\d+)(?!\w)(?!\.\d)")
OLD_CITATION = re.compile(rf"\b[Pp]rotocols?(?:\.md)?,?{BREAK}[A-H](?:\.\d+)?\b")
OUR_ISSUE = re.compile(rf"\b(?:[Tt]he|[Tt]his|[Oo]ur){BREAK}issue(?!{BREAK}#\d)\b")
LINK = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]+)?\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w./<>{{}}$-])(?:{'|'.join(FOLDERS)})/(?:(?!<br)[\w./*<>{{}},-])*")
FILE_NAME = re.compile(r"(?<![\w./-])[\w-]+\.(?:md|smk|py)\b")
DOTTED = re.compile(r"(?<![\w./<>{}$-])((?:dino|workflow)(?:\.(?!py\b)[A-Za-z_]\w*)+)")
NAME = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`(?!`)")
"""In single backticks, as docstrings write names of the code; values and file contents stand in double ones."""


@dataclass(frozen=True)
class Prose:
    """A piece of text that a person wrote for readers, with its place."""

    path: str
    line: int
    text: str

    def place(self, match: re.Match[str]) -> str:
        """``path:line`` of what was found."""
        return f"{self.path}:{self.line + self.text.count(chr(10), 0, match.start())}"


def tracked(root: Path) -> list[str]:
    """The files that git tracks or would track, but not the two that say what a wrong pointer is."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    mine = {"tests/pointers.py", "tests/test_references.py"}
    return [name for name in names if name not in mine and (root / name).is_file()]


def prose_of(path: str, source: str) -> Iterator[Prose]:
    """The prose of one file: all of a document, docstrings and comments of code, comments of YAML."""
    if path.endswith(".md"):
        yield Prose(path, 1, source)
    elif path.endswith((".yaml", ".yml", ".smk")) or Path(path).name in {"Snakefile", "Makefile"}:
        yield Prose(path, 1, "\n".join(line[line.find("#") :] if "#" in line else "" for line in source.splitlines()))
    elif path.endswith(".py"):
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
                yield Prose(path, node.lineno, "\n".join(lines[node.lineno - 1 : node.end_lineno]))
        yield from _comments(path, source)


def _comments(path: str, source: str) -> Iterator[Prose]:
    """Comments, those of neighbouring lines as one."""
    lines: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] > first + len(lines):
                yield Prose(path, first, "\n".join(lines))
                lines = []
            first = token.start[0] if not lines else first
            lines.append(token.string)
    if lines:
        yield Prose(path, first, "\n".join(lines))


class Paper:
    """The sections of docs/paper.md and what else of it can be cited."""

    def __init__(self, text: str) -> None:
        self.labels = set(re.findall(r"^#+ ([A-H](?:\.\d+)?)\.? ", text, re.MULTILINE))
        self.labels |= set(re.findall(r"^\| ([A-H]\.\d+) \|", text, re.MULTILINE))
        self.runs: set[str] = set()
        for row in re.findall(r"^\| (P\d\d[^|]*) \|", text, re.MULTILINE):
            numbers = [int(number) for number in re.findall(r"P(\d\d)", row)]
            self.runs |= {f"P{n:02}" for n in (range(numbers[0], numbers[-1] + 1) if "..." in row else numbers)}
        self.titles: dict[str, list[str]] = {}
        label = ""
        for heading in re.finditer(r"^#+ (?:([A-H](?:\.\d+)?)\.? )?(.*)", text, re.MULTILINE):
            label = heading[1] or label
            self.titles.setdefault(label, []).append(heading[2])

    def unknown(self, citation: str) -> list[str]:
        """What of ``A.8 "boost", D.1 P13`` or ``C.5-C.8`` is no section, title or pretraining of the document."""
        words = re.sub(BREAK, " ", citation)
        titled = re.findall(r'([A-H](?:\.\d+)?) "([^"]+)"', words)
        bare = re.sub(r'"[^"]+"', "", words)
        wrong = [label for label in re.findall(r"\b[A-H](?:\.\d+)?\b", bare) if label not in self.labels]
        wrong += [run for run in re.findall(r"\bP\d\d\b", bare) if run not in self.runs]
        wrong += [f'{at} "{title}"' for at, title in titled if title not in " ".join(self.titles.get(at, []))]
        return wrong


class Code:
    """Modules, classes and attributes of `dino` and `workflow`, and all names of the Python code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[Path, ast.Module] = {}

    def resolves(self, dotted: str) -> bool:
        """Whether ``dino.config.RunConfig.epochs`` is a module, or what a module or class of it defines."""
        names = dotted.split(".")
        for depth in range(len(names), 0, -1):
            base = self.root.joinpath(*names[:depth])
            for module in (base / "__init__.py", base.with_suffix(".py")):
                if module.is_file():
                    return self._defines(module, names[depth:])
            if base.is_dir():
                return depth == len(names)
        return False

    def knows(self, name: str) -> bool:
        """Whether a name from anywhere in the code is one: ``Scale.resolve``, ``read_pair``, ``state.offset``."""
        owner, _, member = name.partition(".")
        if owner in self.classes and member:
            return any(member.split(".")[0] in self._members(node) for node in self.classes[owner])
        return all(part in self.names for part in name.split("."))

    @functools.cached_property
    def classes(self) -> dict[str, list[ast.ClassDef]]:
        """Every class of `dino` and `workflow` by its name."""
        found: dict[str, list[ast.ClassDef]] = {}
        for path in [*self.root.glob("dino/**/*.py"), *self.root.glob("workflow/**/*.py")]:
            for node in ast.walk(self._tree(path)):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(node)
        return found

    @functools.cached_property
    def names(self) -> set[str]:
        """Every identifier of the Python code, names of modules, and the words of its short strings and of YAML.

        Strings of the tests beside this file are left out: they are examples of wrong names.
        """
        found: set[str] = set()
        for path in (path for folder in FOLDERS for path in self.root.glob(f"{folder}/**/*.py")):
            found |= {path.stem, path.parent.name}
            for node in ast.walk(self._tree(path)):
                found |= {value for field in _NAMING if isinstance(value := getattr(node, field, None), str)}
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.parent.name != "tests":
                    found |= set(re.findall(r"\w+", node.value)) if " " not in node.value else set()
        for pattern in (
            "ablations/*.yaml",
            "profiles/**/*.yaml",
            "workflow/**/*.yaml",
            "workflow/**/*.smk",
            "Snakefile",
        ):
            for path in self.root.glob(pattern):
                found |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        return found

    def _defines(self, module: Path, names: list[str]) -> bool:
        if not names:
            return True
        node = _definitions(self._tree(module)).get(names[0])
        if isinstance(node, ast.ImportFrom):
            return self.resolves(".".join([node.module or "", *names]))
        if isinstance(node, ast.ClassDef) and names[1:]:
            return names[1] in self._members(node)
        return node is not None

    def _members(self, node: ast.ClassDef) -> set[str]:
        found = set(_definitions(node))
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id == "self":
                found.add(child.attr)
        for base in node.bases:
            for parent in self.classes.get(base.id, []) if isinstance(base, ast.Name) else []:
                found |= self._members(parent) if parent is not node else set()
        return found

    def _tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = ast.parse(path.read_text(encoding="utf-8"))
        return self._trees[path]


_NAMING = ("id", "attr", "name", "arg", "asname")
"""Fields of syntax nodes that hold an identifier."""


def _definitions(node: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """What the body of a module or class defines or imports, also under an ``if``."""
    found: dict[str, ast.stmt] = {}
    waiting = list(node.body)
    for statement in waiting:
        if isinstance(statement, ast.If | ast.Try):
            waiting += [*statement.body, *statement.orelse]
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name: statement for alias in statement.names}
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= {name.id: statement for each in targets for name in ast.walk(each) if isinstance(name, ast.Name)}
    return found


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for title in re.findall(r"^#{1,6} +(.*?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def dead_link(root: Path, path: str, target: str) -> bool:
    """Whether a relative link of a document leads to no file, or to no heading of it."""
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    place = (root / path).parent / name if name else root / path
    if not place.exists():
        return True
    return bool(anchor) and anchor not in anchors(place.read_text(encoding="utf-8"))


def dead_path(root: Path, path: str) -> bool:
    """Whether no file fits a path with placeholders (``dino/objectives/<name>.py``, ``ablations/*.yaml``)."""
    pattern = re.sub(r"<[^>]*>|\{[^}]*\}|\bNAME\b|\.\.\.$", "*", path.rstrip(".,:/-"))
    return not any(root.glob(pattern))
