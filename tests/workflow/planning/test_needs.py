"""Which studies need which data sets and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dino.doctor.studies import ask_needs
from dino.registry import load_registry
from dino.released import RELEASED
from workflow.__main__ import main
from workflow.planning.needs import find_needs


def test_every_set_and_all_weights_that_studies_name_are_known(project_root: Path):
    needs = find_needs(project_root)
    assert set(needs.datasets) <= set(load_registry())
    assert set(needs.weights) <= set(RELEASED)


def test_a_study_needs_what_its_rows_are_trained_and_measured_on(project_root: Path):
    needs = find_needs(project_root).datasets
    assert "retrieval" in needs["roxford5k"]["paper"]
    assert "retrieval" in needs["gldv2"]["paper"]
    assert "retrieval" in needs["oxford-laptop"]["laptop"]
    assert "teacher" in needs["imagenet"]["paper"]
    assert "teacher" not in needs["roxford5k"]["paper"]
    assert "paper" not in needs["oxford-laptop"]


def test_weights_are_needed_where_the_scale_is_the_papers(project_root: Path):
    weights = find_needs(project_root).weights
    assert "retrieval" in weights["deit_small"]["paper"]
    assert "main_results" in weights["dino_vits16"]["paper"]
    assert {scale for scales in weights.values() for scale in scales} == {"paper"}


def test_the_command_prints_lines_or_json(project_root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--root", str(project_root), "needs"]) == 0
    assert any(line.startswith("voc12 (paper): ") for line in capsys.readouterr().out.splitlines())
    assert main(["--root", str(project_root), "needs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == find_needs(project_root).document()


def test_the_doctor_understands_the_answer(project_root: Path):
    told, needs = ask_needs(), find_needs(project_root)
    assert (told.datasets, told.weights, told.problem) == (needs.datasets, needs.weights, "")
