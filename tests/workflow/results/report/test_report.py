from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_runs import hand_made

from workflow.planning.plan import Plan
from workflow.results.report.report import duration, write_report
from workflow.results.summary import summarise
from workflow.results.tables.tables import write_tables
from workflow.results.words import number

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects text, links and sources; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [values["href"] or ""] if "href" in values else []
        self.sources += [values["src"] or ""] if "src" in values else []
        self.ids += [values["id"] or ""] if "id" in values else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report(plan3: Plan, done3: Path) -> tuple[Path, Page]:
    for name in plan3.studies:
        write_tables(summarise(plan3, name, results=done3), done3 / "tables")
    path = write_report(plan3, done3, root=done3)  # no checkout: its commit would change under the test
    return path, Page(path.read_text(encoding="utf-8"))


def test_every_cell_and_claim_stands_in_the_page(report: tuple[Path, Page], plan3: Plan, done3: Path):
    text = report[1].text
    for name in plan3.studies:
        results = summarise(plan3, name, results=done3)
        for row in results.rows:
            assert row.variant.label in text
            assert f"{number(row.row.mean)} ± {number(row.spread)}" in text
            assert row.row.published is None or number(row.row.published) in text
        for claim, verdict in results.claims:
            assert claim.say in text
            assert verdict.numbers in text


def test_every_run_is_linked_and_every_link_leads_somewhere(report: tuple[Path, Page], plan3: Plan):
    path, page = report
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif not link.startswith("https://arxiv.org/"):
            assert (path.parent / link).exists(), link
    for run_id in plan3.runs:
        assert f"../runs/{run_id}/" in page.links
    assert len([link for link in page.links if link.startswith("../tables/")]) == 9
    assert "../figures/teacher-curves.pdf" in page.links


def test_the_page_needs_nothing_from_elsewhere(report: tuple[Path, Page]):
    path, page = report
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & page.tags
    style = re.search(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])


def test_summary_counts_and_facts(report: tuple[Path, Page], plan3: Plan, done3: Path):
    text = report[1].text
    rows = [row for name in plan3.studies for row in summarise(plan3, name, results=done3).rows]
    tones = [row.verdict.tone for row in rows if row.verdict.text not in ("reference", "measured")]
    assert len(tones) == 11
    assert f"{tones.count('good')} of 11 published numbers are borne out" in text
    assert f"Runs {len(plan3.runs)} " in text
    assert "snakemake --config scale=laptop studies=teacher,teacher_temperature,center_momentum seeds=3" in text
    assert "core-hours (1 core a run)" in text
    assert "torch 2.14.1" in text


def test_the_page_is_the_same_each_time(report: tuple[Path, Page], plan3: Plan, done3: Path):
    before = report[0].read_bytes()
    assert write_report(plan3, done3, root=done3).read_bytes() == before


def test_what_people_write_is_text_not_markup(tmp_path: Path):
    study = {
        "title": "<b>Bold</b> & co",
        "paper": "Fig. 1",
        "metrics": ["knn.top1"],
        "variants": {"one": {"label": "<script>alert(1)</script>", "published": {"knn.top1": 50.0}}},
        "claims": [{"say": "a < b", "check": "one.knn.top1 < 90", "source": "<i>"}],
    }
    plan = hand_made(tmp_path, study, {"one": {0: 50.0}})
    page = Page(write_report(plan, tmp_path / "results" / "desk", root=tmp_path).read_text(encoding="utf-8"))
    assert not {"script", "b", "i"} & page.tags
    assert "<script>alert(1)</script>" in page.text


def test_a_page_without_any_run_says_so(tmp_path: Path):
    study = {
        "title": "Empty",
        "paper": "Fig. 1",
        "metrics": ["knn.top1"],
        "variants": {"one": {"label": "One", "published": {"knn.top1": 50.0}}},
    }
    plan = hand_made(tmp_path, study, {}, missing={"one": "not run: no data set imagenet"})
    text = Page(write_report(plan, tmp_path / "results" / "desk", root=tmp_path).read_text(encoding="utf-8")).text
    assert "not run (no data set imagenet)" in text
    assert "0 of 1" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (3.04, "3.0 s"), (42.4, "42 s"), (187, "3 min 07 s"), (18720, "5 h 12 min")]
)
def test_durations_read_well(seconds: float, text: str):
    assert duration(seconds) == text
