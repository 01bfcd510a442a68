"""What a table is, before any format: heads, and lines of cells with text, tone, notes and links.

Tables are built once (`workflow.results.tables.study`); what writes them in a format only escapes and lays out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Align = Literal["left", "center", "right", "prose"]
"""``prose`` is on the left, and long."""
Look = Literal["plain", "soft", "code", "badge", "strong"]
"""``soft`` matters less; a ``badge`` has the colour of its tone, and a ``strong`` one stands out in text, too."""


@dataclass(frozen=True)
class Link:
    """Where a number is from."""

    name: str
    """What to click on where a cell has several: a seed."""
    href: str
    run: str = ""
    """The run's id."""


@dataclass(frozen=True)
class Entry:
    """What stands in one cell: plain text, which each format escapes."""

    text: str = ""
    rest: str = ""
    """What follows the text and is no part of its link: the paper's number."""
    symbol: str = ""
    """What says the verdict where there is no room for words."""
    aside: str = ""
    """What stands in brackets where there is room."""
    look: Look = "plain"
    tone: str = ""
    """``good``, ``bad``, ``open`` or ``neutral``: the colour of a badge or symbol."""
    notes: tuple[str, ...] = ()
    """Footnotes, a sentence each."""
    links: tuple[Link, ...] = ()
    """One is of the text; several stand beside it."""
    hint: str = ""
    """What a pointer that rests on the cell is told."""


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    text: str
    align: Align = "left"
    notes: tuple[str, ...] = ()
    printed: bool = True
    """Whether there is room for the column on a printed page."""


@dataclass(frozen=True)
class Table:
    """Heads, and as many cells in each line; the first names the line."""

    heads: tuple[Head, ...]
    lines: tuple[tuple[Entry, ...], ...]
    dense: bool = False
    """Whether it is a grid of numbers, too wide for a page unless it is set small."""


@dataclass(frozen=True)
class StudyTables:
    """All that a study's page has apart from figures."""

    name: str
    title: str
    paper: str
    description: str
    facts: tuple[str, ...]
    """What a reader must know before the numbers, a sentence each."""
    limit: str
    """Why a contrast cannot show at this scale; empty where nothing stands in the way."""
    metric: str
    """What all numbers are of; empty for grids, which say it at their heads."""
    legend: str
    """How the cells of grids are read."""
    tables: tuple[Table, ...]
    claims: Table | None
    records: Table
    """One line a variant and metric, for programs."""

    @property
    def preface(self) -> tuple[str, ...]:
        """The facts, and the limit."""
        limit = self.limit.strip().rstrip(".")
        return (*self.facts, f"Limit at this scale: {limit}.") if limit else self.facts


@dataclass
class Footnotes:
    """Numbered notes; equal texts share a number."""

    texts: list[str] = field(default_factory=list)

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """The numbers of ``texts``, in their order."""
        found = []
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
            found.append(self.texts.index(text) + 1)
        return found
