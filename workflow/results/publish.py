"""``python -m workflow publish``: results of a run that happened, copied into docs/ and the README, never typed.

For each scale the tables and figures go to ``docs/expected/<scale>/``; each table says which command made it, on which
machine, at which commit and in what time (from ``results/<scale>/sessions.jsonl``, which every call of `snakemake`
appends to). The README's blocks ``<!-- begin: NAME -->`` ... ``<!-- end: NAME -->`` are then filled from
``docs/expected/NAME.md``, NAME being ``<scale>/<study>`` or ``benchmarks``.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from dino.errors import UserError
from dino.files import write_text, write_text_if_changed

BLOCK = re.compile(r"(<!-- begin: ([\w/-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)")


def publish_scale(scale: str, *, root: Path, results: Path) -> Path:
    """Copy the artefacts of ``results`` to ``docs/expected/<scale>/`` and return that folder.

    Raises:
        UserError: There is no finished call of `snakemake`, or no table, to publish.
    """
    tables = sorted((results / "tables").glob("*.md"))
    if not tables:
        raise UserError(f"no tables in {results}: run `snakemake --config scale={scale}` first")
    provenance = _provenance(_sessions(results / "sessions.jsonl", scale))
    folder = root / "docs" / "expected" / scale
    if folder.exists():
        shutil.rmtree(folder)
    for table in tables:
        # The runs stay behind: their links would lead nowhere.
        text = _LINK.sub(r"\1", table.read_text(encoding="utf-8"))
        write_text(folder / table.name, f"{_demoted(text).strip()}\n\n{provenance}\n")
        figure = results / "figures" / f"{table.stem}.png"
        if figure.is_file():
            shutil.copyfile(figure, folder / figure.name)
    return folder


def fill_readme(readme: Path, expected: Path) -> bool:
    """Fill the blocks of ``readme`` from ``expected/NAME.md``; blocks without such a page stay. True if it changed."""
    text = readme.read_text(encoding="utf-8")
    return write_text_if_changed(readme, filled(text, expected))


def filled(text: str, expected: Path) -> str:
    """``text`` with its blocks filled from ``expected``."""

    def replace(match: re.Match[str]) -> str:
        page = expected / f"{match[2]}.md"
        if not page.is_file():
            return match[0]
        return f"{match[1]}{page.read_text(encoding='utf-8')}{match[3]}"

    return BLOCK.sub(replace, text)


def _sessions(path: Path, scale: str) -> list[dict[str, Any]]:
    """The calls that did the work, interrupted ones too. What took less than a tenth of the longest only redrew."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `snakemake --config scale={scale}` first") from None
    sessions = [dict(json.loads(line)) for line in lines]
    if all(session["failed"] for session in sessions):
        raise UserError(f"no call of snakemake at scale {scale} has succeeded yet ({path})")
    longest = max(session["seconds"] for session in sessions)
    return [session for session in sessions if session["seconds"] >= longest / 10]


def _provenance(sessions: list[dict[str, Any]]) -> str:
    calls = []
    for command in dict.fromkeys(session["command"] for session in sessions):
        own = [session for session in sessions if session["command"] == command]
        calls.append(f"`{command}`")
        if len(own) > 1:
            unfinished = sum(session["failed"] for session in own)
            calls[-1] += f" ({len(own)} calls, {unfinished} of them interrupted or failed)"
    minutes, seconds = divmod(round(sum(session["seconds"] for session in sessions)), 60)
    commits = list(dict.fromkeys(session["commit"] for session in sessions))
    in_all, plural = " in all" if len(sessions) > 1 else "", "s" if len(commits) > 1 else ""
    return (
        f"Made by {' and '.join(calls)} on {sessions[0]['started'][:10]}: {minutes} min {seconds:02d} s{in_all}, "
        f"commit{plural} {', '.join(commits)}, {sessions[-1]['machine']}. Copied by `python -m workflow publish`."
    )


def _demoted(markdown: str) -> str:
    """Headings two levels down: a table's page becomes a section of another."""
    return re.sub(r"^(#+) ", r"##\1 ", markdown, flags=re.MULTILINE)
