"""Plans: variants x seeds become runs, equal ones once, and cells that say where their number will stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.planning.plan import make_plan


def test_three_default_studies_share_a_run(project):
    plan = make_plan(scale="smoke", root=project)
    assert list(plan.studies) == ["teacher", "teacher_temperature", "center_momentum"]
    # 4 + 6 + 4 rows of the paper and random weights in each: one default in two studies, one random in three.
    assert (len(plan.runs), len(plan.cells)) == (14, 17)
    shared = {(cell.study, cell.variant): cell.run_id for cell in plan.cells}
    assert shared["teacher_temperature", "warm"] == shared["center_momentum", "m09"]
    assert len({shared[study, "random"] for study in plan.studies}) == 1
    names = plan.names()[shared["center_momentum", "m09"]]["names"]
    assert [(name["study"], name["label"]) for name in names] == [
        ("teacher_temperature", "0.04 → 0.07"),
        ("center_momentum", "0.9"),
    ]


def test_seeds_multiply_runs_and_cells(project):
    one, three = make_plan(scale="smoke", root=project), make_plan(scale="smoke", root=project, seeds=3)
    assert len(three.runs) == 3 * len(one.runs)
    assert set(one.runs) < set(three.runs)
    assert [cell.seed for cell in three.cells_of("center_momentum")[:4]] == [0, 1, 2, 0]


def test_cell_names_the_file_of_its_run(project):
    plan = make_plan(scale="smoke", studies=["teacher"], root=project)
    cell = plan.cells_of("teacher")[0]
    assert cell.variant == "student_copy"
    assert cell.file == Path("results/smoke/runs") / str(cell.run_id) / "metrics" / "knn.json"
    assert plan.runs[str(cell.run_id)].config.teacher == "student_copy"
    assert plan.runs[str(cell.run_id)].evaluations.keys() == {"knn"}


def test_generated_data_is_part_of_a_runs_identity(project):
    plan = make_plan(scale="smoke", studies=["teacher"], root=project)
    versions = {run.config.dataset_version for run in plan.runs.values()}
    assert len(versions) == 1
    assert versions != {""}
    assert plan.data["world-smoke"].chance == 20.0


@pytest.mark.parametrize("scale", ["gpu", "paper", "cifar10-small"])
def test_missing_data_set_makes_cells_say_so(project, scale: str):
    plan = make_plan(scale=scale, root=project)
    assert plan.runs == {}
    assert all(cell.missing and cell.missing.startswith("not run: data set") for cell in plan.cells)
    assert all(cell.run_id is None and cell.file is None for cell in plan.cells)


def test_real_data_set_runs_where_it_has_a_path_and_the_path_is_no_identity(project):
    ids = []
    for folder in ("here", "there"):
        (project / folder).mkdir()
        (project / "data-paths.yaml").write_text(f"cifar10: {folder}\n", encoding="utf-8")
        plan = make_plan(scale="gpu", root=project)
        assert all(cell.missing is None for cell in plan.cells)
        ids.append(set(plan.runs))
    assert ids[0] == ids[1]


def test_estimates_of_cost_need_no_data(project):
    assert len(make_plan(scale="paper", root=project, assume_data=True).runs) == 14


def test_quoted_variant_runs_nothing(project, edit):
    edit("ablations/center_momentum.yaml", '    label: "0.999"\n', '    label: "0.999"\n    quoted: true\n')
    plan = make_plan(scale="smoke", studies=["center_momentum"], root=project)
    (cell,) = [cell for cell in plan.cells if cell.variant == "m0999"]
    assert (cell.run_id, cell.file, cell.missing) == (None, None, None)
    assert len(plan.runs) == len(plan.studies["center_momentum"].variants) - 1


def test_label_comment_and_published_value_change_no_run(project, edit):
    before = set(make_plan(scale="smoke", root=project).runs)
    edit("ablations/center_momentum.yaml", 'label: "0.999"', "label: slow  # as slow as it gets")
    edit("ablations/center_momentum.yaml", "{knn.top1: 69.4}", "{knn.top1: 70.4}")
    assert set(make_plan(scale="smoke", root=project).runs) == before


def test_added_row_adds_its_run_only(project, edit):
    before = make_plan(scale="smoke", root=project).runs
    row = '  m05:\n    label: "0.5"\n    set: {center_momentum: 0.5}\n  m0999:\n'
    edit("ablations/center_momentum.yaml", "  m0999:\n", row)
    after = make_plan(scale="smoke", root=project).runs
    assert set(before) < set(after)
    assert len(after) == len(before) + 1


def test_mistake_in_an_unselected_study_does_not_stop_the_others(project):
    (project / "ablations" / "draft.yaml").write_text("titel: not yet\n", encoding="utf-8")
    assert list(make_plan(scale="smoke", studies=["teacher"], root=project).studies) == ["teacher"]
    with pytest.raises(UserError, match=r"draft\.yaml, line 1: unknown key 'titel'"):
        make_plan(scale="smoke", studies="all", root=project)


def test_unknown_study_suggests_the_nearest(project):
    with pytest.raises(UserError, match="no study 'teachers' .*did you mean 'teacher'"):
        make_plan(scale="smoke", studies=["teachers"], root=project)


def test_limits_must_name_a_scale(project, edit):
    edit("ablations/teacher.yaml", "axis: teacher\n", "axis: teacher\nlimits: {labtop: too small}\n")
    with pytest.raises(UserError, match=r"'limits': no scale 'labtop'; did you mean 'laptop'"):
        make_plan(scale="smoke", studies=["teacher"], root=project)


def test_planning_imports_nothing_heavy(project_root: Path):
    code = (
        "import sys; from pathlib import Path; import workflow.planning.planner, workflow.session.session; "
        "from workflow.planning.plan import make_plan; make_plan(scale='laptop', root=Path(sys.argv[1])); "
        "print([name for name in ('torch', 'torchvision', 'timm', 'mlflow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(project_root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
