from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dino.config import RunConfig
from dino.training.schedules import build_schedules, cosine_schedule

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "training.json").read_text())


def test_released_vit_s16_run_has_the_schedule_values_of_a6() -> None:
    config = RunConfig(epochs=800, batch_size=1024, min_lr=1e-5, warmup_epochs=10)
    schedules = build_schedules(config, 1251)
    assert schedules.total_steps == 1_000_800
    assert schedules.lr[0] == 0.0
    assert schedules.lr[1] == pytest.approx(1.5988e-7, rel=1e-4)
    assert schedules.lr[12509] == schedules.lr[12510] == 0.002
    assert schedules.lr[500400] == pytest.approx(1.02478e-3, rel=1e-5)
    assert schedules.lr[-1] == pytest.approx(1.0000000005e-5, rel=1e-9)
    assert schedules.weight_decay[[0, 500400]].tolist() == pytest.approx([0.04, 0.22], abs=1e-12)
    assert schedules.weight_decay[-1] == pytest.approx(0.3999999999991, abs=1e-13)
    assert schedules.teacher_momentum[0] == pytest.approx(0.996, abs=1e-15)
    assert schedules.teacher_momentum[250200] == pytest.approx(0.99658579, abs=1e-8)
    assert schedules.teacher_momentum[500400] == pytest.approx(0.998, abs=1e-12)


def test_vanilla_run_has_the_schedule_values_of_a6() -> None:
    schedules = build_schedules(RunConfig(epochs=100, batch_size=512), 2502)
    assert schedules.total_steps == 250_200
    assert schedules.lr[25019] == schedules.lr[25020] == 0.001
    assert schedules.lr[125100] == pytest.approx(5.87237e-4, rel=1e-5)
    assert schedules.weight_decay[125100] == pytest.approx(0.22)
    assert schedules.teacher_momentum[125100] == pytest.approx(0.998)


@pytest.mark.parametrize(
    ("name", "start", "end", "warmup_steps"),
    [("lr", 0.002, 1e-5, 120), ("weight_decay", 0.04, 0.4, 0), ("teacher_momentum", 0.996, 1.0, 0)],
)
def test_tables_are_those_of_the_authors(name: str, start: float, end: float, warmup_steps: int) -> None:
    table = cosine_schedule(start, end, steps=1200, warmup_steps=warmup_steps)
    assert len(table) == 1200
    np.testing.assert_allclose(
        table[[0, 1, 119, 120, 121, 600, 1198, 1199]], GOLDEN["schedules"][name], rtol=1e-12, atol=0
    )


def test_fractions_of_epochs_become_whole_steps() -> None:
    config = RunConfig(epochs=2.5, warmup_epochs=0.5, freeze_last_layer_epochs=0.25)
    schedules = build_schedules(config, 8)
    assert (schedules.total_steps, schedules.frozen_steps) == (20, 2)
    assert schedules.lr[:5].tolist() == pytest.approx([0.0, 2e-3 / 3, 4e-3 / 3, 2e-3, 2e-3])
    assert [schedules.epoch_of(step) for step in (0, 7, 8, 19)] == [0, 0, 1, 2]


@pytest.mark.parametrize(("epochs", "warmup", "steps"), [(0, 0, 0), (0.01, 0, 1), (1, 1, 8), (3, 0, 24)])
def test_extreme_lengths_give_whole_finite_tables(epochs: float, warmup: float, steps: int) -> None:
    schedules = build_schedules(RunConfig(epochs=epochs, warmup_epochs=warmup), 8)
    for table in (schedules.lr, schedules.weight_decay, schedules.teacher_momentum):
        assert len(table) == steps
        assert np.isfinite(table).all()
