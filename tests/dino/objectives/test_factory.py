from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dino.config import RunConfig, build_config, fingerprint, load_config
from dino.errors import UserError
from dino.models import build_networks
from dino.objectives import OBJECTIVES
from dino.objectives.factory import build_objective, objective_class
from dino.objectives.pairing import by_view, pair_weights, summed_targets
from dino.running.checkpoint import read_checkpoint
from dino.running.journal import read
from tests.dino.training.tiny import tiny_config, train


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_name_has_its_class(name: str) -> None:
    teacher = "student_copy" if name == "swav" else "momentum"
    objective = build_objective(tiny_config(objective=name, teacher=teacher))
    assert type(objective) is objective_class(name)
    assert objective.num_views == 4


def test_an_unknown_objective_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no such objective; did you mean 'mocov2'\? \(known: dino, byol, mocov2"):
        build_config({"objective": "mocov3"})


def test_knowing_the_objectives_imports_no_torch() -> None:
    code = "import sys, dino.config, dino.objectives; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_new_objective_is_a_file_a_line_and_a_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file: tests/dino/objectives/toy.py. The line:
    monkeypatch.setitem(OBJECTIVES, "toy", "tests.dino.objectives.toy:CosineObjective")
    # The YAML:
    tiny = tiny_config().model_dump(mode="json")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**tiny, "objective": "toy"}))

    config = load_config(tmp_path / "toy.yaml")
    assert fingerprint(config) != fingerprint(tiny_config())
    train(config, tmp_path / "run", log_every=1)
    state = read_checkpoint(tmp_path / "run" / "checkpoint.pth")
    assert state["config"]["objective"] == "toy"
    assert state["objective"]["mean"].norm() > 0
    assert not any("last_layer" in name for name in state["student"])
    metrics = [record.metrics for record in read(tmp_path / "run")]
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert (metrics[0]["toy_epoch"], metrics[-1]["toy_epoch"]) == (0.0, 2.0)
    assert "output_std" in metrics[0]


@pytest.mark.parametrize("views", [2, 3, 12])
def test_every_view_meets_both_globals_but_itself_at_equal_weight(views: int) -> None:
    weights = pair_weights(views)
    assert weights[0, 0] == weights[1, 1] == 0
    assert int((weights > 0).sum()) == 2 * views - 2
    assert float(weights.sum()) == pytest.approx(1.0)
    assert len(set(weights[weights > 0].tolist())) == 1


def test_summed_targets_are_the_sums_of_a_views_pairs() -> None:
    targets = torch.randn(6, 5)
    first, second = targets.chunk(2)
    summed = summed_targets(targets, 4)
    assert [count for _, count in summed] == [1, 1, 2, 2]
    for (ours, _), expected in zip(summed, (second, first, first + second, first + second), strict=True):
        torch.testing.assert_close(ours, expected)
    assert torch.equal(by_view(targets, 2)[1], second)


def test_only_objectives_with_prototypes_have_a_last_layer() -> None:
    for name in ("byol", "mocov2"):
        student, _ = build_networks(tiny_config(objective=name))
        assert student.head.last_layer is None
    assert build_networks(RunConfig(arch="vit_nano", out_dim=8, head_hidden_dim=8))[0].head.last_layer is not None
