"""Numbers reach the README from results that happened, with their provenance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.results.publish import fill_readme, filled, publish_scale


def _results(folder: Path, *, failed: bool = False) -> Path:
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "teacher.md").write_text("# Teacher\n\n| [61.2](../runs/x/) | [paper](https://arxiv.org) |\n")
    (folder / "figures").mkdir()
    (folder / "figures" / "teacher.png").write_bytes(b"png")
    calls = [
        {"command": "snakemake", "seconds": 605.4, "failed": failed},
        {"command": "snakemake tables", "seconds": 4.0, "failed": failed},
    ]
    common = {"started": "2026-01-31T12:00:00+0000", "commit": "abc", "machine": "Linux, 2 cores"}
    (folder / "sessions.jsonl").write_text("".join(json.dumps({**common, **call}) + "\n" for call in calls))
    return folder


def test_published_page_carries_numbers_and_provenance(tmp_path: Path) -> None:
    folder = publish_scale("laptop", root=tmp_path, results=_results(tmp_path / "results"))
    page = (folder / "teacher.md").read_text()
    assert "Made by `snakemake` on 2026-01-31: 10 min 05 s, commit abc, Linux, 2 cores" in page
    assert "### Teacher" in page
    assert "| 61.2 | [paper](https://arxiv.org) |" in page, "links to runs are dropped, others stay"
    assert (folder / "teacher.png").read_bytes() == b"png"


def test_provenance_counts_every_call_that_worked_on_the_results(tmp_path: Path) -> None:
    results = _results(tmp_path / "results")
    later = {
        "started": "2026-01-31T13:00:00+0000",
        "machine": "Linux, 2 cores",
        "command": "snakemake --config studies=all",
    }
    with open(results / "sessions.jsonl", "a") as handle:
        for commit, failed in (("abc", True), ("def", False)):
            handle.write(json.dumps({**later, "commit": commit, "seconds": 300, "failed": failed}) + "\n")
    page = (publish_scale("laptop", root=tmp_path, results=results) / "teacher.md").read_text()
    assert "Made by `snakemake` and `snakemake --config studies=all` (2 calls, 1 of them interrupted or failed)" in page
    assert "on 2026-01-31: 20 min 05 s in all, commits abc, def, Linux, 2 cores." in page


def test_a_failed_run_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no call of snakemake"):
        publish_scale("laptop", root=tmp_path, results=_results(tmp_path / "results", failed=True))


def test_nothing_to_publish_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="snakemake --config scale=smoke"):
        publish_scale("smoke", root=tmp_path, results=tmp_path)


def test_readme_blocks_are_filled_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "laptop.md").write_text("new\n")
    text = "a\n<!-- begin: laptop -->\nold\n<!-- end: laptop -->\n<!-- begin: none -->\nkept\n<!-- end: none -->\n"
    (tmp_path / "README.md").write_text(text)
    assert fill_readme(tmp_path / "README.md", tmp_path)
    assert (tmp_path / "README.md").read_text() == text.replace("old", "new")
    assert not fill_readme(tmp_path / "README.md", tmp_path), "a second call changes nothing"


def test_the_readme_holds_what_docs_hold(project_root: Path) -> None:
    text = (project_root / "README.md").read_text()
    assert filled(text, project_root / "docs" / "expected") == text, "run `python -m workflow publish`"
