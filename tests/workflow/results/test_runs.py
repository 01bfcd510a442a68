from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from dino.errors import UserError
from dino.metrics import read_metrics
from workflow.planning.plan import Plan
from workflow.results.runs import read_run
from workflow.results.summary import StudyResults, summarise


def file_of(plan: Plan, results: Path, study: str = "teacher", variant: str = "momentum") -> Path:
    cell = next(cell for cell in plan.cells_of(study) if cell.variant == variant)
    assert cell.file is not None
    return results / cell.file.relative_to("results/laptop")


def row_of(results: StudyResults, variant: str) -> Any:
    return next(row for row in results.rows if row.name == variant)


def test_readings_are_in_the_studys_order(plan3: Plan, done3: Path):
    results = summarise(plan3, "teacher", results=done3)
    assert list(dict.fromkeys(each.cell.variant for each in results.readings)) == list(results.study.variants)
    assert [each.cell.seed for each in results.readings] == [0, 1, 2] * len(results.study.variants)
    assert {each.measure.n for each in results.readings if each.measure} == {2000}
    assert {each.chance for each in results.readings} == {5.0}


def test_rows_have_mean_and_spread_over_seeds(plan3: Plan, done3: Path):
    results = summarise(plan3, "teacher", results=done3)
    own = [each for each in results.readings if each.cell.variant == "momentum"]
    values = [each.measure.value for each in own if each.measure]
    row = row_of(results, "momentum")
    assert row.row.mean == pytest.approx(fmean(values))
    assert row.spread == pytest.approx(stdev(values))
    assert [run.seed for run in row.runs] == [0, 1, 2]


def test_one_seed_has_the_test_sets_error_and_no_spread(plan: Plan, done: Path):
    row = row_of(summarise(plan, "teacher", results=done), "momentum")
    assert row.spread is None
    assert 0.7 < row.error < 1.0


def test_the_random_row_is_recognised_by_its_configuration(plan: Plan, done: Path):
    results = summarise(plan, "teacher", results=done)
    assert [row.name for row in results.rows if row.random] == ["random"]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda document: "{", "not readable as a metrics file"),
        (lambda document: "[]", "schema"),
        (lambda document: {**document, "schema": 2}, "it says 2"),
        (lambda document: {**document, "metrics": {"top1": {"value": None}}}, "metrics.top1.value"),
        (lambda document: {**document, "metrics": {"top1": {"value": 1.0, "n": 0}}}, "metrics.top1.n"),
        (lambda document: {key: value for key, value in document.items() if key != "protocol"}, "protocol"),
        (lambda document: {**document, "run_id": "other-run"}, "it is of run other-run"),
    ],
)
def test_malformed_metrics_file_is_named(plan: Plan, fresh: Path, spoil: Callable[[Any], Any], named: str):
    path = file_of(plan, fresh)
    spoilt = spoil(json.loads(path.read_text()))
    path.write_text(spoilt if isinstance(spoilt, str) else json.dumps(spoilt))
    with pytest.raises(UserError) as error:
        summarise(plan, "teacher", results=fresh)
    assert str(path) in str(error.value)
    assert named in str(error.value)


def test_a_metric_that_an_evaluation_did_not_give_is_a_row_without_a_number(plan: Plan, fresh: Path):
    path = file_of(plan, fresh)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "metrics": {"top5": {"value": 1.0}}}))
    row = row_of(summarise(plan, "teacher", results=fresh), "momentum")
    assert row.verdict.text == "not run (this evaluation gave no top1 here)"


def test_infinite_value_is_refused(plan: Plan, fresh: Path):
    path = file_of(plan, fresh)
    path.write_text(path.read_text().replace('"value": ', '"value": Infinity, "was": ', 1))
    with pytest.raises(UserError, match=r"metrics\.top1\.value"):
        read_metrics(path)


def test_a_changed_file_is_read_again(plan: Plan, fresh: Path):
    path = file_of(plan, fresh)
    before = read_metrics(path).metrics["top1"].value
    document = json.loads(path.read_text())
    document["metrics"]["top1"]["value"] = before - 10
    path.write_text(json.dumps(document))
    assert read_metrics(path).metrics["top1"].value == before - 10


def test_missing_files_are_rows_without_a_number(plan: Plan, fresh: Path):
    file_of(plan, fresh, variant="previous_epoch").unlink()
    row = row_of(summarise(plan, "teacher", results=fresh), "previous_epoch")
    assert (row.row.mean, row.verdict.text) == (None, "not run (not yet)")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"status": "failed", "message": "step 3: the loss is nan"}, "not run (failed: step 3: the loss is nan)"),
        ({"status": "interrupted", "step": 7}, "not run (interrupted at step 7)"),
        ({"status": "running", "step": 7}, "not run (still running)"),
        ({"status": "finished", "step": 9}, "not run (not yet)"),
    ],
)
def test_why_a_number_is_missing_comes_from_the_runs_status(plan: Plan, fresh: Path, status: dict[str, Any], text: str):
    path = file_of(plan, fresh, variant="previous_epoch")
    path.unlink()
    (path.parent.parent / "status.json").write_text(json.dumps(status))
    assert row_of(summarise(plan, "teacher", results=fresh), "previous_epoch").verdict.text == text


def test_collapse_is_named_in_words(plan: Plan, done: Path):
    results = summarise(plan, "teacher_temperature", results=done)
    assert row_of(results, "t008").row.collapses == {0: "collapse to the uniform output (teacher entropy at ln K)"}
    assert row_of(results, "t004").row.collapses == {}


def test_a_run_that_has_not_begun_has_no_status(tmp_path: Path):
    run = read_run(tmp_path / "nowhere")
    assert (run.status, run.seconds, run.collapse) == ("not started", 0.0, "")


def test_unreadable_status_is_named(tmp_path: Path):
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(UserError, match=r"status\.json"):
        read_run(tmp_path)
