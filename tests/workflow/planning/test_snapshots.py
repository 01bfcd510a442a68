"""Which runs keep snapshots, and what becomes of one that finished without them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dino.config import RunConfig
from workflow.inputs.call import load_settings
from workflow.planning.plan import Plan, make_plan
from workflow.planning.planner import Planner
from workflow.planning.plans import count_snapshots
from workflow.planning.snapshots import missing_snapshots, studies_of_curves


@pytest.fixture
def plan(project: Path) -> Plan:
    return make_plan(scale="laptop", studies=["teacher_curves", "teacher"], root=project)


def test_runs_of_a_curve_keep_what_the_scale_says(plan: Plan):
    kept = {run.run_id: count_snapshots(run, plan.scale) for run in plan.runs.values()}
    shown = {cell.run_id for cell in plan.cells_of("teacher_curves")}
    assert {run for run, count in kept.items() if count} == shown
    assert set(kept.values()) == {0, 7}


def test_only_studies_that_name_a_curve_are_read(project: Path):
    assert studies_of_curves(project / "ablations") == ["teacher_curves"]


def test_a_finished_run_without_snapshots_has_cells_that_say_the_way_out(project: Path, plan: Plan):
    run = plan.runs[str(plan.cells_of("teacher_curves")[0].run_id)]
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "checkpoint.pth").write_bytes(b"weights")
    cells = make_plan(scale="laptop", studies=["teacher_curves"], root=project).cells_of("teacher_curves")
    missing = {cell.variant: cell.missing for cell in cells}
    assert missing["vits16"] == (
        f"not run: the run finished without snapshots; to train it again with them, remove {run.run_dir}"
    )
    assert missing["resnet50"] is None


def test_snapshots_or_the_curve_itself_are_enough(tmp_path: Path):
    config = RunConfig(dataset="world")
    assert missing_snapshots(tmp_path, config, "knn_curve") is None  # not finished
    (tmp_path / "checkpoint.pth").write_bytes(b"weights")
    assert missing_snapshots(tmp_path, config, "knn_curve") is not None
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "knn_curve.json").write_text("{}")  # the snapshots were removed to save space
    assert missing_snapshots(tmp_path, config, "knn_curve") is None
    (tmp_path / "metrics" / "knn_curve.json").unlink()
    (tmp_path / "snapshots").mkdir()
    assert missing_snapshots(tmp_path, config, "knn_curve") is None


def test_a_run_with_labels_has_no_teacher(tmp_path: Path):
    config = RunConfig(dataset="world", objective="supervised")
    assert missing_snapshots(tmp_path, config, "knn_curve") == "a run with labels has no teacher"


def test_a_scale_without_the_lengths_of_the_curves_runs_keeps_no_snapshots(project: Path):
    smoke = (project / "workflow" / "scales" / "smoke.yaml").read_text(encoding="utf-8")
    (line,) = [line for line in smoke.splitlines() if line.startswith("epochs:")]
    short = smoke.replace(line, "epochs: {0: 0, 100: 2}")
    (project / "workflow" / "scales" / "short.yaml").write_text(short, encoding="utf-8")
    settings = load_settings(project, scale="short", studies="teacher_temperature")
    planner = Planner(root=project, settings=settings)
    (run, *_) = [run for run in planner.plans.configured.runs if "random" not in run]
    assert planner.snapshots(SimpleNamespace(scale="short", run=run)) == 0
