"""``python -m workflow``: configurations, costs, lists of runs and editor schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from dino.config import load_config, overrides
from workflow.__main__ import main
from workflow.inputs.schema import schemas
from workflow.planning.cost import cost_lines, paper_gpu_hours
from workflow.planning.plan import make_plan


@pytest.fixture
def planned(project):
    """One run of the smoke scale."""
    return next(iter(make_plan(scale="smoke", studies=["teacher"], root=project).runs.values()))


def test_written_configuration_is_the_planned_one(planned, tmp_path: Path):
    output = tmp_path / "run" / "config.yaml"
    arguments = ["write-config", json.dumps(overrides(planned.config)), "--run-id", planned.run_id]
    assert main([*arguments, "--output", str(output)]) == 0
    assert load_config(output) == planned.config
    before = output.stat().st_mtime_ns
    assert main([*arguments, "--output", str(output)]) == 0
    assert output.stat().st_mtime_ns == before


def test_configuration_of_another_run_is_refused(planned, tmp_path: Path, capsys):
    settings = json.dumps({**overrides(planned.config), "seed": 5})
    output = tmp_path / "config.yaml"
    assert main(["write-config", settings, "--run-id", planned.run_id, "--output", str(output)]) == 2
    assert "not of dino-vitn4" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("settings", ["{", '{"teacher_tmp": 1}'])
def test_broken_settings_are_one_sentence(settings: str, tmp_path: Path, capsys):
    assert main(["write-config", settings, "--run-id", "x", "--output", str(tmp_path / "c.yaml")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_cost_at_the_papers_scale_comes_from_table_8(project):
    plan = make_plan(scale="paper", root=project, assume_data=True)
    hours = sorted(hours for run in plan.runs.values() if (hours := paper_gpu_hours(run)) is not None)
    assert len(hours) == 14
    assert hours[0] == 0  # random weights
    assert hours[1] == pytest.approx(20.3 * 16)  # 100 epochs, 2 + 6 crops
    assert hours[-1] == pytest.approx(72.6 * 16)  # 300 epochs, 2 + 10 crops
    text = "\n".join(cost_lines(plan))
    assert "7,570 V100-hours" in text
    assert "imagenet" in text


def test_cost_of_other_backbones_follows_the_throughputs_of_table_1(project):
    plan = make_plan(scale="paper", studies=["patch_size"], root=project, assume_data=True)
    hours = {run.config.arch + str(run.config.patch_size): paper_gpu_hours(run) for run in plan.runs.values()}
    assert hours["vit_small8"] == pytest.approx(20.3 * 16 * 3 * 1007 / 180)
    assert hours["vit_base8"] == pytest.approx(24.2 * 16 * 3 * 1007 / 63)
    text = "\n".join(cost_lines(plan))
    assert "by the ratios of Table 1's throughputs" in text
    assert "evaluations that wait: 5 k-NN, 5 throughput" in text


def test_eight_local_crops_lie_between_six_and_ten(project):
    plan = make_plan(scale="paper", studies=["readme"], root=project, assume_data=True)
    vanilla = next(run for run in plan.runs.values() if run.config.epochs == 100 and run.config.arch == "vit_small")
    assert paper_gpu_hours(vanilla) == pytest.approx((20.3 + 24.2) / 2 * 16)


def test_cost_is_unknown_until_a_run_has_finished(project):
    def text() -> str:
        return "\n".join(cost_lines(make_plan(scale="smoke", root=project)))

    assert "pretraining: unknown" in text()
    assert "14 runs, of which 0 are done" in text()
    runs = make_plan(scale="smoke", studies=["center_momentum"], root=project).runs.values()
    for run in runs:
        run.run_dir.mkdir(parents=True)
        (run.run_dir / "checkpoint.pth").write_bytes(b"")
        (run.run_dir / "status.json").write_text('{"status": "finished", "seconds": 3600}', encoding="utf-8")
    assert "14 runs, of which 5 are done" in text()
    # 5 runs as long as those that took an hour, 4 of two epochs with one local crop more.
    pixels, more = 2 * 16**2 + 2 * 8**2, 2 * (2 * 16**2 + 3 * 8**2)
    assert f"about {5 + 4 * more / pixels:.2g} core-hours" in text()


def test_cost_ignores_runs_that_did_not_finish(project):
    run = next(iter(make_plan(scale="smoke", studies=["center_momentum"], root=project).runs.values()))
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "status.json").write_text('{"status": "interrupted", "seconds": 3600}', encoding="utf-8")
    assert "pretraining: unknown" in "\n".join(cost_lines(make_plan(scale="smoke", root=project)))


def test_commands_print_the_plan(project, capsys):
    assert main(["--root", str(project), "runs", "--scale", "smoke", "--studies", "teacher"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("teacher/student_copy")
    assert main(["--root", str(project), "cost", "--scale", "smok"]) == 2
    assert "did you mean 'smoke'" in capsys.readouterr().err


def test_schemas_in_the_repository_are_current(project_root: Path):
    for name, schema in schemas().items():
        written = json.loads((project_root / "workflow" / "schemas" / name).read_text(encoding="utf-8"))
        assert written == schema, "run `python -m workflow schema`"


def test_shipped_files_obey_their_schemas_and_mistakes_do_not(project_root: Path):
    study, scale = schemas()["study.schema.json"], schemas()["scale.schema.json"]
    for path in (project_root / "ablations").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), study)
    for path in (project_root / "workflow" / "scales").glob("*.yaml"):
        # JSON knows text keys only: `epochs: {100: 10}` is written "100" there.
        document = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
        jsonschema.validate(document, scale)
    broken = yaml.safe_load((project_root / "ablations" / "teacher.yaml").read_text(encoding="utf-8"))
    broken["variants"]["momentum"]["set"]["teacher_momentun"] = 0.9
    with pytest.raises(jsonschema.ValidationError, match="teacher_momentun"):
        jsonschema.validate(broken, study)
