"""One study of the report page: its numbers, claims, figures and files as the template wants them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from workflow.results.report.gallery import study_images
from workflow.results.summary import StudyResults
from workflow.results.tables.model import Entry, Head, Link, StudyTables, Table
from workflow.results.tables.study import study_tables
from workflow.results.verdicts import TONES, Kind

TONE_ORDER = ("good", "open", "bad", "neutral")


def tally(counts: Counter[Any]) -> list[dict[str, Any]]:
    """Verdicts with how often they occur; rows that have nothing to be judged by do not count as judged."""
    unjudged = (Kind.REFERENCE, Kind.MEASURED, Kind.QUOTED)
    entries = [
        {"word": str(word), "tone": TONES[word], "count": count, "judged": word not in unjudged}
        for word, count in counts.items()
    ]
    return sorted(entries, key=lambda entry: (TONE_ORDER.index(entry["tone"]), entry["word"]))


def share(counts: list[dict[str, Any]]) -> str:
    """How many of what could be judged are good."""
    judged = sum(entry["count"] for entry in counts if entry["judged"])
    return f"{sum(entry['count'] for entry in counts if entry['tone'] == 'good')} of {judged}" if judged else "–"


def study_section(results: StudyResults, folder: Path, page_folder: Path) -> dict[str, Any]:
    """One study as the template shows it."""
    return {
        "claim_counts": tally(Counter(verdict.word for _, verdict in results.claims)),
        "cell_counts": tally(Counter(row.verdict.kind.value for row in results.rows)),
        "shown": study_tables(results),
        "figures": study_images(results, folder),
        "files": _files(results.study.name, folder, page_folder),
    }


def overview(sections: list[dict[str, Any]]) -> Table:
    """A line a study: how much of it holds."""
    heads = (Head("Study"), Head("In the paper"), Head("Claims that hold", "right"), Head("Numbers borne out", "right"))
    lines = []
    for section in sections:
        shown: StudyTables = section["shown"]
        counts = (Entry(share(section[f"{what}_counts"])) for what in ("claim", "cell"))
        lines.append(
            (Entry(shown.title, links=(Link("", f"#{shown.name}"),)), Entry(shown.paper, look="soft"), *counts)
        )
    return Table(heads, tuple(lines))


def _files(name: str, folder: Path, page_folder: Path) -> list[dict[str, str]]:
    candidates = [folder / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    candidates += [folder / "figures" / f"{name}{part}.pdf" for part in ("", "-curves")]
    return [{"name": path.name, "href": href(path, page_folder)} for path in candidates if path.is_file()]


def href(path: Path, page_folder: Path) -> str:
    """A relative link from the page's folder."""
    relative = Path(os.path.relpath(path, page_folder)).as_posix()
    return f"{relative}/" if path.is_dir() else relative
