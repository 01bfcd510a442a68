"""What the doctor found, and how it is shown."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    ``missing`` disables something that the default scale does without; ``broken`` is what it needs.
    """

    section: str
    name: str
    status: Status
    value: str
    advice: str = ""


def as_document(findings: list[Finding]) -> dict[str, Any]:
    """The findings for a program: ``ok`` and a list."""
    return {"ok": is_healthy(findings), "findings": [dataclasses.asdict(finding) for finding in findings]}


def is_healthy(findings: list[Finding]) -> bool:
    """Whether the default scale can run."""
    return all(finding.status != "broken" for finding in findings)


def as_lines(findings: list[Finding]) -> list[str]:
    """Plain text: a heading for each section and a line for each finding."""
    lines = []
    section = None
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines.append(f"{section}:")
        lines.append(f"  [{finding.status}] {finding.name}: {finding.value}")
        if finding.advice:
            lines.append(f"      {finding.advice}")
    return [*lines, verdict(findings)]


def verdict(findings: list[Finding]) -> str:
    """The last line: whether the default scale can run, and what stands in its way."""
    broken = [finding.name for finding in findings if finding.status == "broken"]
    if broken:
        return f"the default scale cannot run before this is mended: {', '.join(broken)}"
    missing = sum(finding.status == "missing" for finding in findings)
    return "the default scale can run" + (f"; {missing} optional things are missing" if missing else "")


def print_table(findings: list[Finding]) -> None:
    """A table for a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("section", "status", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("value", overflow="fold")
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    section = None
    for finding in findings:
        heading = finding.section if finding.section != section else ""
        section = finding.section
        text = escape(finding.value) + (f"\n[dim]{escape(finding.advice)}[/dim]" if finding.advice else "")
        colour = colours[finding.status]
        table.add_row(f"[bold]{heading}[/bold]", f"[{colour}]{finding.status}[/{colour}]", escape(finding.name), text)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\n[bold]{escape(verdict(findings))}[/bold]")
