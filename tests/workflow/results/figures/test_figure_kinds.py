from __future__ import annotations

import json
from pathlib import Path

import fake_metrics
import pytest
from drawn import covered, texts_of
from fake_runs import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from workflow.planning.plan import Plan, make_plan
from workflow.results.figures.bars import compose_bars
from workflow.results.figures.epochs import series
from workflow.results.figures.figures import compose_figure, draw_figure, plotted_metrics
from workflow.results.figures.scatter import log_ticks, scatter_points
from workflow.results.figures.style import figure_style
from workflow.results.summary import StudyResults, summarise

DRAWN = ("patch_size", "multicrop_compute", "collapse", "teacher_curves", "low_shot", "linear_layers", "architectures")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(scale="laptop", studies=[*DRAWN, "frozen_features"], root=PROJECT, assume_data=True)


@pytest.fixture(scope="module")
def folder(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    fake_metrics.write_metrics(root, plan)
    return root / "results" / "laptop"


@pytest.fixture(scope="module")
def results(plan: Plan, folder: Path) -> dict[str, StudyResults]:
    return {name: summarise(plan, name, results=folder) for name in plan.studies}


def compose(results: StudyResults) -> Figure:
    with figure_style():
        return compose_figure(results)


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_of_a_figure_covers_another_or_is_cut_off(results: dict[str, StudyResults], name: str):
    with figure_style():
        assert covered(compose_figure(results[name])) == []


@pytest.mark.slow
def test_every_study_is_readable(tmp_path: Path):
    plan = make_plan(scale="laptop", studies="all", root=PROJECT, assume_data=True)
    fake_metrics.write_metrics(tmp_path, plan)
    for name in plan.studies:
        with figure_style():
            found = covered(compose_figure(summarise(plan, name, results=tmp_path / "results" / "laptop")))
        assert found == [], name


def test_a_scatter_names_each_point_and_joins_those_of_one_network(results: dict[str, StudyResults]):
    study = results["patch_size"]
    figure = compose(study)
    (axes,) = figure.axes  # the paper prints no accuracies of this figure
    assert sorted(texts_of(axes)) == sorted(variant.label for variant in study.study.variants.values())
    assert axes.get_xscale() == "log"
    joined = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 1]
    rows = {(row.name, row.metric): row.row.mean for row in study.rows}
    small = sorted((rows[name, "throughput.im_per_s"], rows[name, "knn.top1"]) for name in ("vits16", "vits8", "vits5"))
    assert sorted(map(len, joined)) == [2, 3]
    assert [tuple(point) for point in max(joined, key=len)] == small
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {"ViT-S", "ViT-B"}


def test_a_scatter_shows_the_papers_points_beside_ours(results: dict[str, StudyResults]):
    study = results["multicrop_compute"]
    ours, paper = compose(study).axes
    assert len(texts_of(ours)) == len(texts_of(paper)) == 8
    assert "300 epochs" not in " ".join(texts_of(ours))  # the legend says it once
    points = {(point.x, point.y) for point in scatter_points(study, "pretrain.hours", "linear.top1", paper=True)}
    assert (72.6, 76.1) in points
    assert ours.get_xlabel() == "Pretraining time (min)"
    assert paper.get_xlabel() == "Pretraining time (h)"


def test_bars_tell_measured_quoted_and_published_numbers_apart(results: dict[str, StudyResults]):
    study = results["low_shot"]
    first, second = compose(study).axes
    rows = study.rows_of("logistic_1pct.top1")
    outlined = [bar for bar in first.patches if bar.get_facecolor()[3] == 0]
    assert sorted(bar.get_width() for bar in outlined) == sorted(
        row.row.published for row in rows if row.variant.quoted
    )
    filled = [bar.get_width() for bar in first.patches if bar.get_facecolor()[3] > 0]
    assert filled == pytest.approx([row.row.mean for row in rows if row.row.mean is not None])
    hollow = [line.get_xdata()[0] for line in first.lines if line.get_marker() == "D"]
    assert hollow == [row.row.published for row in rows if row.row.published is not None and not row.variant.quoted]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == [variant.label for variant in study.study.variants.values()]
    assert (first.get_title("left"), second.get_xlabel()) != ("", "")


def test_quantities_of_other_magnitudes_stand_on_a_logarithmic_axis(results: dict[str, StudyResults]):
    speed, size = compose(results["architectures"]).axes
    assert (speed.get_xscale(), size.get_xscale()) == ("linear", "log")
    assert not size.patches  # a bar would have no foot


def test_one_network_with_several_numbers_is_one_panel(results: dict[str, StudyResults]):
    (axes,) = compose(results["linear_layers"]).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["last block", "last 2 blocks", "last 4 blocks", "last 6 blocks"]


def test_many_metrics_are_small_multiples(results: dict[str, StudyResults]):
    study = results["frozen_features"]
    with figure_style():
        figure = compose_bars(study, plotted_metrics(study)).figure
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert len(visible) == len(study.study.metrics)
    assert all(len(axes.get_yticks()) == 3 for axes in visible)


def test_the_collapse_figure_is_entropy_and_kl_over_the_epochs(results: dict[str, StudyResults]):
    study = results["collapse"]
    figure = compose(study)
    entropy, kl = figure.axes
    assert (entropy.get_title("left"), kl.get_title("left")) == (
        "Teacher entropy (nats)",
        "KL(teacher, student) (nats)",
    )
    assert [text.split(" =")[0] for text in texts_of(entropy)] == ["ln K"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["Both operations", "No centring", "No sharpening (collapsed)"]
    assert len(kl.lines) == 3


def test_curves_of_an_evaluation_are_its_metrics_by_epoch(results: dict[str, StudyResults], folder: Path):
    study = results["teacher_curves"]
    figure = compose(study)
    assert [axes.get_title("left") for axes in figure.axes] == ["ViT-S/16", "ResNet-50"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Teacher", "Student"]
    assert figure.axes[0].get_ylabel() == "k-NN top-1 (%)"
    (run,) = [row.runs[0] for row in study.rows if row.name == "vits16" and row.metric == "knn_curve.top1"]
    metrics = json.loads((folder / "runs" / run.run_id / "metrics" / "knn_curve.json").read_text())["metrics"]
    teacher = figure.axes[0].lines[0].get_xydata().tolist()
    assert teacher == [[float(epoch), metrics[f"teacher_e{epoch}"]["value"]] for epoch in range(2, 15, 2)]
    assert next(iter(series(study, "vits16", "knn_curve.student_eK")))[1][0] == (2, metrics["student_e2"]["value"])


def test_curves_without_measurements_say_so(tmp_path: Path, plan: Plan):
    study = summarise(plan, "teacher_curves", results=tmp_path)
    assert all(texts_of(axes) == ["not run"] for axes in compose(study).axes)
    assert all(path.stat().st_size > 1000 for path in draw_figure(study, tmp_path))


def test_a_scatter_without_measurements_says_so(tmp_path: Path, plan: Plan):
    ours, paper = compose(summarise(plan, "multicrop_compute", results=tmp_path)).axes
    assert texts_of(ours) == ["not run"]
    assert len(texts_of(paper)) == 8


@given(st.floats(1e-3, 1e5), st.floats(1.02, 1e4))
def test_a_logarithmic_axis_has_ticks_within_its_limits(low: float, factor: float):
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(ticks)
    assert 2 <= len(ticks) <= 12
    assert all(low <= tick <= low * factor for tick in ticks)
