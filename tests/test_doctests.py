"""The examples in docstrings run as they stand: pasted into a notebook, with nothing imported before."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WITH_EXAMPLES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for path in ROOT.glob("dino/**/*.py")
    if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)
NEEDED = {
    "dino.config": ["load_recipe"],
    "dino.data.augment": ["MultiCrop"],
    "dino.evaluation.scoring.votes": ["score_knn"],
    "dino.metrics": ["read_metrics"],
    "dino.models.backbone": ["build_backbone"],
    "dino.models.head": ["ProjectionHead"],
    "dino.models.network": ["build_networks"],
    "dino.models.weights": ["load_backbone"],
    "dino.objectives.byol": ["ByolObjective"],
    "dino.objectives.dino": ["DinoObjective"],
    "dino.objectives.mocov2": ["MocoObjective"],
    "dino.objectives.swav": ["SwavObjective"],
    "dino.running.journal": ["Journal"],
    "dino.training.teacher": ["Teacher"],
}
"""What people import in a notebook."""


def examples_of(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    tests = examples_of(module)
    assert tests, f"{module} shows '>>>' where no docstring is"
    for test in tests:
        torch.manual_seed(0)
        test.globs = {}
        report: list[str] = []
        failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
        assert not failed, "".join(report)


@pytest.mark.parametrize("module", NEEDED)
def test_what_people_import_has_an_example(module: str) -> None:
    named = {test.name for test in examples_of(module)}
    assert {f"{module}.{name}" for name in NEEDED[module]} <= named
