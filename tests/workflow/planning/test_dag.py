"""What runs again after an edit, asked of the real `snakemake` over a finished run.

The run that is edited was made through the real Snakefile with a stand-in for `dino` and for the artefact commands,
which only write the files they are asked for: what is under test is the DAG, not the numbers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

FAKE_DINO = """\
#!/bin/sh
# Writes what each subcommand is asked to write; notes each call.
echo "$@" >> "$FAKE_CALLS"
case "$1" in
  generate) mkdir -p "$4"; echo '{}' > "$4/manifest.json" ;;
  pretrain) if [ -n "$FAKE_SLEEP" ]; then sleep "$FAKE_SLEEP"; fi
    mkdir -p "$4/metrics"; echo weights > "$4/checkpoint.pth"; echo pretrain > "$4/metrics/pretrain.json" ;;
  *) while [ $# -gt 0 ]; do
       if [ "$1" = --output ]; then mkdir -p "$(dirname "$2")"; echo "$1" > "$2"; fi
       shift
     done ;;
esac
"""

FAKE_PYTHON = """\
#!/bin/sh
# `python -m workflow table|figure|curves|report` touch their files; everything else is the real python.
if [ "$1" = -m ] && [ "$2" = workflow ]; then
  case "$3" in
    table) for kind in csv md tex; do mkdir -p results/smoke/tables; : > "results/smoke/tables/$4.$kind"; done; exit ;;
    figure) mkdir -p results/smoke/figures; for end in png pdf; do : > "results/smoke/figures/$4.$end"; done; exit ;;
    curves) mkdir -p results/smoke/figures
      for end in png pdf; do : > "results/smoke/figures/$4-curves.$end"; done; exit ;;
    report) mkdir -p results/smoke/report; : > results/smoke/report/index.html; exit ;;
  esac
fi
exec {python} "$@"
"""


def snakemake(folder: Path, *arguments: str, config: Sequence[str] = (), **environment: str) -> str:
    done = subprocess.run(
        [str(BIN / "snakemake"), *arguments, "--config", "scale=smoke", "tracking=off", *config],
        cwd=folder,
        env=fake_environment(folder) | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fake_environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(folder.parent / "bin"), str(BIN), os.environ["PATH"]])
    return os.environ | {
        "PATH": path,
        "FAKE_CALLS": str(folder / "calls.txt"),
        "DINO_DATASETS": str(folder / "datasets"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def planned(folder: Path) -> dict[str, int]:
    """Jobs by rule that a call would run."""
    return jobs(snakemake(folder, "-n"))


def jobs(output: str) -> dict[str, int]:
    counts = Counter(re.findall(r"^(?:local)?rule (\w+):$", output, flags=re.MULTILINE))
    del counts["all"]
    return dict(counts)


def made(output: str) -> str:
    """The output files that a dry run announces."""
    return "\n".join(re.findall(r"^    output: (.*)$", output, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A project in which everything of the smoke scale has been made."""
    parent = tmp_path_factory.mktemp("finished")
    folder = parent / "project"
    copy_project(project_root, folder)
    (parent / "bin").mkdir()
    for name, text in (("dino", FAKE_DINO), ("python", FAKE_PYTHON.replace("{python}", str(BIN / "python")))):
        script = parent / "bin" / name
        script.write_text(text, encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    snakemake(folder, "--cores", "4")
    return folder


def copy_project(root: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy2(root / "Snakefile", folder)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("workflow", "ablations", "profiles"):
        shutil.copytree(root / name, folder / name, ignore=ignore)
    shutil.copytree(root / "dino" / "datasets", folder / "datasets")


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project to edit."""
    shutil.copytree(finished.parent, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "project"


def replace(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_everything_is_made_once_and_equal_configurations_are_one_run(finished: Path):
    calls = (finished / "calls.txt").read_text(encoding="utf-8").splitlines()
    assert Counter(call.split()[0] for call in calls) == {"generate": 1, "pretrain": 14, "features": 14, "knn": 14}
    tables = sorted(path.name for path in (finished / "results/smoke/tables").iterdir())
    assert tables == sorted(
        f"{study}.{kind}"
        for study in ("teacher", "teacher_temperature", "center_momentum")
        for kind in ("csv", "md", "tex")
    )
    assert (finished / "results/smoke/report/index.html").is_file()


def test_second_call_does_nothing(done: Path):
    assert planned(done) == {}


def test_added_row_runs_once_with_its_evaluation_and_what_shows_it(done: Path):
    row = '  t003:\n    label: "0.03"\n    set: {teacher_temp: 0.03, warmup_teacher_temp: null}\n  t004:\n'
    replace(done, "ablations/teacher_temperature.yaml", "  t004:\n", row)
    output = snakemake(done, "-n")
    assert jobs(output) == {
        "resolve_config": 1,
        "pretrain": 1,
        "extract_features": 1,
        "evaluate_knn": 1,
        "make_table": 1,
        "make_figure": 1,
        "make_curves": 1,
        "make_report": 1,
    }
    assert "tables/teacher_temperature.csv" in made(output)
    assert "temp0.03" in made(output)


def test_removed_row_only_changes_what_showed_it(done: Path):
    path = done / "ablations" / "center_momentum.yaml"
    text = path.read_text(encoding="utf-8")
    start, end = text.index("  m099:\n"), text.index("  m0999:\n")
    claims = text.index("claims:")
    path.write_text(text[:start] + text[end:claims], encoding="utf-8")
    assert planned(done) == {"make_table": 1, "make_figure": 1, "make_curves": 1, "make_report": 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [("label: Momentum", "label: EMA"), ("published: {knn.top1: 72.8}", "published: {knn.top1: 72.9}")],
    ids=["label", "published value"],
)
def test_label_or_published_value_trains_nothing(done: Path, old: str, new: str):
    replace(done, "ablations/teacher.yaml", old, new)
    output = snakemake(done, "-n")
    assert jobs(output) == {"make_table": 1, "make_figure": 1, "make_curves": 1, "make_report": 1}
    assert "tables/teacher.csv" in made(output)


def test_comments_and_key_order_change_nothing(done: Path):
    replace(done, "ablations/teacher.yaml", "title: Building the teacher\npaper: Fig. 6\n", "")
    path = done / "ablations" / "teacher.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# note\n{text}\npaper: Fig. 6  # a comment\ntitle: Building the teacher\n", encoding="utf-8")
    assert planned(done) == {}


def test_space_in_a_shell_line_changes_nothing(done: Path):
    replace(done, "workflow/rules/pretrain.smk", '"dino pretrain {input.config}', '"dino  pretrain {input.config}')
    assert planned(done) == {}


def test_a_lost_or_changed_figure_is_drawn_again_alone(done: Path):
    figures = done / "results/smoke/figures"
    (figures / "teacher-curves.png").unlink()
    assert planned(done) == {"make_curves": 1, "make_report": 1}
    snakemake(done, "--cores", "2")
    replace(done, "workflow/inputs/figure_spec.py", "\nDRAWING_VERSION = ", "\nDRAWING_VERSION = 1 + ")
    assert planned(done) == {"make_figure": 3, "make_curves": 3, "make_report": 1}


def test_runs_of_a_curve_keep_snapshots_whatever_is_asked_for_first(finished: Path):
    calls = (finished / "calls.txt").read_text(encoding="utf-8").splitlines()
    kept = [call for call in calls if call.startswith("pretrain") and "--snapshots 0" not in call]
    assert len(kept) == 1  # the momentum teacher of Fig. 6, though teacher_curves was not asked for
    assert "--snapshots 2" in kept[0]


def test_a_run_that_finished_without_snapshots_is_not_trained_again(done: Path):
    config = ["studies=[teacher,teacher_curves]"]
    counts = jobs(snakemake(done, "-n", config=config))
    assert (counts["pretrain"], counts["evaluate_knn_curve"]) == (1, 1)  # ResNet-50 only
    for folder in (done / "results/smoke/runs").glob("*-s0-*"):
        (folder / "snapshots").mkdir()
    counts = jobs(snakemake(done, "-n", config=config))
    assert (counts["pretrain"], counts["evaluate_knn_curve"]) == (1, 2)


def test_pictures_are_drawn_of_the_networks_of_a_study(done: Path):
    output = snakemake(done, "-n", config=["studies=pictures"])
    counts = jobs(output)
    assert (counts["pretrain"], counts["draw_attention"], counts["draw_tsne"]) == (2, 3, 1)
    assert "pictures/pictures/heads/index.json" in made(output)
    assert "pictures/pictures/classes.png" in made(output)


def test_changed_override_trains_that_row_alone(done: Path):
    replace(done, "ablations/center_momentum.yaml", "center_momentum: 0.99}", "center_momentum: 0.98}")
    counts = planned(done)
    assert (counts["pretrain"], counts["evaluate_knn"], counts["make_table"]) == (1, 1, 1)


def test_more_seeds_add_runs_and_keep_the_old(done: Path):
    output = snakemake(done, "-n", config=["seeds=3"])
    counts = jobs(output)
    assert (counts["pretrain"], counts["make_table"], counts["make_report"]) == (28, 3, 1)
    assert "-s0-" not in made(output)


def test_changed_neighbours_evaluate_again_but_extract_nothing(done: Path):
    replace(done, "workflow/scales/smoke.yaml", "temperature: 0.07}", "temperature: 0.1}")
    counts = planned(done)
    assert counts["evaluate_knn"] == 14
    assert not {"pretrain", "extract_features"} & set(counts)


def test_other_generated_images_are_other_runs(done: Path):
    path = done / "datasets" / "world-smoke.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 0", "seed: 1"), encoding="utf-8")
    output = snakemake(done, "-n")
    counts = jobs(output)
    assert counts.get("pretrain") == 14, output
    assert (counts["generate_data"], counts["make_table"]) == (1, 3)
    old = {path.name for path in (done / "results/smoke/runs").iterdir() if path.is_dir()}
    assert not [name for name in old if f"{name}/" in made(output)]


def test_times_of_data_and_configuration_train_nothing(done: Path):
    (done / "results/data/world-smoke/manifest.json").touch()
    for path in (done / "results/smoke/runs").glob("*/config.yaml"):
        path.touch()
    assert planned(done) == {}


def test_lost_generated_data_and_configurations_train_nothing(done: Path):
    shutil.rmtree(done / "results" / "data")
    for path in (done / "results/smoke/runs").glob("*/config.yaml"):
        path.unlink()
    assert "pretrain" not in planned(done)
    shutil.rmtree(next((done / "results/smoke/runs").glob("*random*")))
    counts = planned(done)
    assert (counts["generate_data"], counts["pretrain"], counts["extract_features"]) == (1, 1, 1)


def test_table_of_a_study_outside_the_selection_can_be_asked_for(done: Path):
    output = snakemake(done, "-n", "results/smoke/tables/teacher.md", "-F", config=["studies=center_momentum"])
    assert jobs(output)["make_table"] == 1
    assert jobs(output)["pretrain"] == 5


def test_target_names_its_own_scale(done: Path):
    assert jobs(snakemake(done, "-n", "results/laptop/tables/teacher.md"))["pretrain"] == 5


def test_missing_data_set_leaves_tables_that_say_so(done: Path):
    environment = {"DINO_DATA_PATHS": str(done / "paths.yaml")}
    (done / "paths.yaml").write_text("", encoding="utf-8")
    output = snakemake(done, "-n", config=["scale=paper"], **environment)
    assert jobs(output) == {"make_table": 3, "make_figure": 3, "make_report": 1}


def test_mistake_in_a_study_is_one_sentence(done: Path):
    replace(done, "ablations/teacher.yaml", "label: Momentum", "lable: Momentum")
    run = subprocess.run(
        [str(BIN / "snakemake"), "-n"], cwd=done, env=fake_environment(done), capture_output=True, text=True
    )
    assert run.returncode == 1
    text = run.stdout + run.stderr
    assert "unknown key 'lable' in variants.momentum; did you mean 'label'?" in text
    lines = (done / "ablations" / "teacher.yaml").read_text(encoding="utf-8").splitlines()
    assert f"ablations/teacher.yaml, line {lines.index('    lable: Momentum') + 1}: " in text
    assert "Traceback" not in text


def test_planning_imports_nothing_heavy(done: Path):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "snakemake", "-n", "--quiet"],
        cwd=done,
        env=fake_environment(done),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(re.findall(r"\|\s+(\w+)$", run.stderr, flags=re.MULTILINE))
    assert "yaml" in imported
    assert not {"torch", "torchvision", "timm", "mlflow", "pandas"} & imported


def test_killed_snakemake_leaves_no_lock_that_stops_the_next_call(done: Path):
    shutil.rmtree(done / "results")
    command = [str(BIN / "snakemake"), "--cores", "2", "--config", "scale=smoke", "tracking=off", "studies=teacher"]
    first = subprocess.Popen(
        command,
        cwd=done,
        env=fake_environment(done) | {"FAKE_SLEEP": "600"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    calls = done / "calls.txt"
    calls.write_text("", encoding="utf-8")
    deadline = time.monotonic() + 300
    while "pretrain" not in calls.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, "no pretraining started"
        time.sleep(0.05)
    blocked = subprocess.run(command, cwd=done, env=fake_environment(done), capture_output=True, text=True)
    assert "LockException" in blocked.stdout + blocked.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    output = snakemake(done, "--cores", "2", config=["studies=teacher"])
    assert "Locks of a run that was killed have been removed" in output
    assert (done / "results/smoke/report/index.html").is_file()


@pytest.mark.slow
def test_workflow_passes_snakemakes_own_lint(project_root: Path):
    run = subprocess.run([str(BIN / "snakemake"), "--lint"], cwd=project_root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
