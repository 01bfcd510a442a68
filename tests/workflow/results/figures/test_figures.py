from __future__ import annotations

import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from fake_runs import hand_made
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from dino.errors import UserError
from workflow.planning.plan import Plan
from workflow.results.figures.axis import axis_values, positions, special_variants
from workflow.results.figures.curves import draw_curves
from workflow.results.figures.figures import compose_figure, draw_figure
from workflow.results.figures.style import figure_style
from workflow.results.summary import StudyResults, summarise

STUDIES = ("teacher", "teacher_temperature", "center_momentum")


@pytest.fixture(scope="module")
def results(plan3: Plan, done3: Path) -> dict[str, StudyResults]:
    return {name: summarise(plan3, name, results=done3) for name in STUDIES}


def bare(root: Path, numbers: dict[str, dict[int, float | None]], **study: Any) -> StudyResults:
    variants = {name: {"label": name, "published": {"knn.top1": 50.0}} for name in ("one", "two")}
    fields = {"title": "Mini", "paper": "Fig. 1", "metrics": ["knn.top1"], "variants": variants, **study}
    return summarise(hand_made(root, fields, numbers), "mini", results=root / "results" / "desk")


def test_axis_is_numeric_where_every_variant_has_a_number(results: dict[str, StudyResults]):
    assert axis_values(results["teacher"]) is None  # its axis is a word
    temperatures = axis_values(results["teacher_temperature"])
    assert temperatures is not None
    assert temperatures["t008"] == 0.08
    assert temperatures["warm"] == 0.07


def test_a_variant_that_leaves_the_axis_alone_has_the_recipes_value(tmp_path: Path):
    study = bare(tmp_path, {}, axis="teacher_temp")
    assert axis_values(study) == {"one": 0.07, "two": 0.07}  # of vits16_100ep


def test_variants_off_the_axis_are_told_apart(results: dict[str, StudyResults]):
    assert special_variants(results["teacher_temperature"]) == {"warm"}
    assert special_variants(results["center_momentum"]) == set()


def test_crowded_values_are_spaced_evenly():
    assert positions([0.0, 0.02, 0.08]) == ([0.0, 0.02, 0.08], False)
    assert positions([0.0, 0.9, 0.99, 0.999]) == ([0.0, 1.0, 2.0, 3.0], True)
    assert positions([5.0, 5.0]) == ([5.0, 5.0], False)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10))
def test_positions_keep_the_order(values: list[float]):
    places, _ = positions(values)
    for (left, at_left), (right, at_right) in combinations(zip(values, places, strict=True), 2):
        assert (left < right) == (at_left < at_right)


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_lies_on_another(results: dict[str, StudyResults], name: str):
    with figure_style():
        figure = compose_figure(results[name])
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        for axes in figure.axes:
            texts = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), axes.title, axes.xaxis.label]
            texts += [axes._left_title]  # type: ignore[attr-defined]  # where the style puts titles
            # Text's own extent: an annotation's includes its pointer.
            boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts if text.get_text()]
            for (first, box), (second, other) in combinations(boxes, 2):
                assert not box.overlaps(other), f"{first!r} lies on {second!r}"
        legend = figure.legends[0].get_window_extent(renderer)
        for axes in figure.axes:
            assert not axes.get_tightbbox(renderer).overlaps(legend)


@pytest.mark.parametrize("name", STUDIES)
def test_panels_show_every_number(results: dict[str, StudyResults], name: str):
    with figure_style():
        figure = compose_figure(results[name])
    ours, paper = figure.axes
    legend = {text.get_text().split(": ")[-1] for text in figure.legends[0].get_texts()}
    shown = [{text.get_text().split(": ")[-1] for text in axes.texts} for axes in (ours, paper)]
    for row in results[name].rows:
        assert f"{row.row.mean:.1f}" in (shown[0] | legend if row.random else shown[0])
        assert row.row.published is None or f"{row.row.published:.1f}" in shown[1]


def test_figures_are_the_same_bytes_each_time(tmp_path: Path, results: dict[str, StudyResults]):
    digests = []
    for attempt in ("a", "b"):
        paths = draw_figure(results["teacher_temperature"], tmp_path / attempt)
        paths += draw_curves(results["teacher_temperature"], tmp_path / attempt)
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]
    names = [f"teacher_temperature{end}" for end in (".png", ".pdf", "-curves.png", "-curves.pdf")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(names)


def test_figures_know_the_runs_that_made_them(tmp_path: Path, results: dict[str, StudyResults]):
    png, pdf = draw_figure(results["teacher"], tmp_path)
    with Image.open(png) as image:
        about = image.text["Description"]  # type: ignore[attr-defined]
        assert "Software" not in image.text  # type: ignore[attr-defined]
        assert image.width >= 1400
    assert about.startswith("ablations/teacher.yaml; scale laptop; 15 runs, digest ")
    assert all(run_id in about for run_id in results["teacher"].runs)
    assert b"CreationDate" not in pdf.read_bytes()


def test_provenance_changes_with_the_runs(tmp_path: Path, plan: Plan, done: Path, results: dict[str, StudyResults]):
    from workflow.results.figures.style import provenance

    one_seed = summarise(plan, "teacher", results=done)
    assert provenance(one_seed) != provenance(results["teacher"])


def test_a_study_without_any_number_is_drawn(tmp_path: Path):
    study = bare(tmp_path, {})
    for paths in (draw_figure(study, tmp_path / "figures"), draw_curves(study, tmp_path / "figures")):
        assert all(path.stat().st_size > 1000 for path in paths)
    with figure_style():
        ours, _ = compose_figure(study).axes
    assert [text.get_text() for text in ours.texts] == ["not run", "not run"]


def test_a_run_without_a_journal_leaves_its_curve_out(tmp_path: Path):
    study = bare(tmp_path, {"one": {0: 50.0}, "two": {0: 60.0}})
    (tmp_path / "results/desk/runs/run-one-s0/metrics.jsonl").unlink()
    assert draw_curves(study, tmp_path / "figures")


def test_curves_with_values_that_are_not_finite_are_drawn(tmp_path: Path):
    study = bare(tmp_path, {"one": {0: 50.0}, "two": {0: 60.0}})
    journal = tmp_path / "results/desk/runs/run-one-s0/metrics.jsonl"
    last = {"step": 9999, "epoch": 11.0, "time": 0, "metrics": {"loss": "inf", "teacher_entropy": "nan"}}
    journal.write_text(journal.read_text() + json.dumps(last) + "\n")
    assert draw_curves(study, tmp_path / "figures")


def test_a_broken_journal_is_named_and_nothing_is_written(tmp_path: Path):
    study = bare(tmp_path, {"one": {0: 50.0}})
    journal = tmp_path / "results/desk/runs/run-one-s0/metrics.jsonl"
    journal.write_text("nonsense\n" + journal.read_text())
    with pytest.raises(UserError, match="line 1"):
        draw_curves(study, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
