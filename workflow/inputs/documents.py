"""YAML documents that know their lines, so that a mistake is reported as file, line and key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dino.errors import UserError, suggest

KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What people may call a study, a variant, a mean or a picture."""


@dataclass(frozen=True)
class Document:
    """The plain values of one YAML file, and the line on which each key path stands."""

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(repr=False)

    def line(self, key: KeyPath) -> int:
        """The line of ``key``, or of its nearest enclosing key that stands in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def fail(self, key: KeyPath, message: str) -> NoReturn:
        """Raise a `UserError` that names file, line and key."""
        raise UserError(f"{self.shown}, line {self.line(key)}: {_dotted(key)}{message}")

    def fail_unknown(self, key: KeyPath, known: Iterable[str], *, what: str = "key") -> NoReturn:
        """Raise a `UserError` for a word that is none of ``known``, with the nearest one, else all of them."""
        word, known = str(key[-1]), list(known)
        inside = f" in {'.'.join(str(part) for part in key[:-1])}" if len(key) > 1 else ""
        hint = suggest(word, known) or f" (known: {', '.join(known)})"
        raise UserError(f"{self.shown}, line {self.line(key)}: unknown {what} '{word}'{inside}{hint}")

    @property
    def shown(self) -> str:
        """The path as a person would type it."""
        relative = os.path.relpath(self.path)
        return str(self.path) if relative.startswith("..") else relative


def read_document(path: Path) -> Document:
    """Read the YAML mapping in ``path``.

    Raises:
        UserError: No such file, not YAML, not a mapping, or a key that stands twice or is no string or number.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not readable as YAML: {getattr(error, 'problem', None) or error}") from None
    lines: dict[KeyPath, int] = {}
    document = Document(path=path, values=values if isinstance(values, dict) else {}, lines=lines)
    if not isinstance(values, dict) or node is None:
        document.fail((), "expected a mapping of keys")
    _walk(node, (), document)
    return document


def build_model(model: type[Model], document: Document, **extra: Any) -> Model:
    """Validate the document as ``model``; ``extra`` are fields that do not stand in the file.

    Raises:
        UserError: Names file, line and key; a misspelt key comes with the nearest known one.
    """
    for name in extra:
        if name in document.values:
            document.fail_unknown((name,), [field for field in model.model_fields if field not in extra])
    try:
        return model(**document.values, **extra)
    except ValidationError as error:
        fail_validation(document, error, model, hidden=extra)


def fail_validation(
    document: Document,
    error: ValidationError,
    model: type[BaseModel],
    *,
    prefix: KeyPath = (),
    hidden: Iterable[str] = (),
) -> NoReturn:
    """Report the first problem of a pydantic error at its place in the document."""
    # A misspelt key often makes a required one missing as well: the misspelling is the cause, so it goes first.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = (*prefix, *first["loc"])
    if first["type"] == "extra_forbidden":
        known = [name for name in _fields_at(model, first["loc"][:-1]) if name not in set(hidden)]
        document.fail_unknown(key, known)
    if first["type"] == "missing":
        document.fail(key[:-1], f"the key '{key[-1]}' is missing")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_type" and isinstance(first["input"], int | float):
        message = f'this is a number in YAML; put it in quotes: "{first["input"]}"'
    got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    document.fail(key, f"{message[:1].lower()}{message[1:]}{got}")


def _fields_at(model: type[BaseModel], location: KeyPath) -> list[str]:
    """The field names of the model that ``location`` leads to, e.g. of `Variant` for ``("variants", "t0")``."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        elif arguments := getattr(current, "__args__", ()):
            current = arguments[-1]
        current = _without_none(current)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _without_none(annotation: Any) -> Any:
    inner = [part for part in getattr(annotation, "__args__", ()) if part is not type(None)]
    return inner[0] if len(inner) == 1 and type(None) in annotation.__args__ else annotation


def _walk(node: yaml.Node, key: KeyPath, document: Document) -> None:
    document.lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
            if name_node.tag == "tag:yaml.org,2002:bool":
                document.lines[(*key, name)] = line
                document.fail((*key, name), "YAML reads this key as true or false; put it in quotes")
            if name in seen:
                document.lines[(*key, name)] = line
                document.fail((*key, name), "this key stands twice")
            seen.add(name)
            document.lines[(*key, name)] = line
            _walk(value_node, (*key, name), document)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*key, index), document)


def _dotted(key: KeyPath) -> str:
    return f"'{'.'.join(str(part) for part in key)}': " if key else ""
