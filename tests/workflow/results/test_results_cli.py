from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workflow.__main__ import main


def test_table_figure_and_report_print_what_they_wrote(fresh: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["table", "teacher", "--results", str(fresh)]) == 0
    assert main(["figure", "teacher", "--results", str(fresh)]) == 0
    assert main(["curves", "teacher", "--results", str(fresh)]) == 0
    assert main(["report", "teacher", "--results", str(fresh)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    names = ["teacher.csv", "teacher.md", "teacher.tex", "teacher.png", "teacher.pdf"]
    assert [path.name for path in written] == [*names, "teacher-curves.png", "teacher-curves.pdf", "index.html"]
    assert all(path.is_file() for path in written)


def test_mistakes_are_one_sentence_and_leave_nothing(fresh: Path, capsys: pytest.CaptureFixture[str]):
    spoilt = next((fresh / "runs").glob("*/metrics/knn.json"))
    spoilt.write_text("{")
    assert main(["report", "--results", str(fresh)]) == 2
    error = capsys.readouterr().err
    assert str(spoilt) in error
    assert error.count("\n") == 1
    assert not (fresh / "report").exists()


def test_unknown_study_comes_with_the_nearest(fresh: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["table", "techer", "--results", str(fresh)]) == 2
    assert "did you mean 'teacher'?" in capsys.readouterr().err


def test_planning_imports_none_of_the_heavy_packages():
    heavy = ("pandas", "seaborn", "matplotlib", "jinja2", "torch")
    code = f"""
import sys, workflow.__main__, workflow.planning.planner, workflow.inputs.studies
workflow.__main__.build_parser()
print([name for name in {heavy} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_artefacts_need_no_torch(fresh: Path):
    code = f"""
import sys
from workflow.__main__ import main
for command in ("table", "figure", "curves", "report"):
    assert main([command, "teacher", "--results", {str(fresh)!r}]) == 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
