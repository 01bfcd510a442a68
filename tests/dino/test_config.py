"""The run configuration: one schema, a stable fingerprint, errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dino import config as module
from dino.config import (
    RunConfig,
    build_config,
    dump_config,
    fingerprint,
    load_config,
    load_recipe,
    overrides,
    run_id,
)
from dino.errors import UserError


def test_defaults_are_the_ablation_default() -> None:
    assert build_config(load_recipe("vits16_100ep")) == RunConfig()
    assert overrides(RunConfig()) == {}


def test_fingerprint_ignores_how_a_value_is_written() -> None:
    assert fingerprint(build_config({"epochs": 30})) == fingerprint(build_config({"epochs": 30.0}))
    assert fingerprint(build_config({"epochs": 100})) == fingerprint(RunConfig()), "a default written out is no change"


def test_fingerprint_survives_a_new_field_with_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extended(RunConfig):
        brand_new_option: int = 7

    before = fingerprint(build_config({"seed": 3}))
    monkeypatch.setattr(module, "RunConfig", Extended)
    assert fingerprint(Extended(seed=3)) == before


@given(field=st.sampled_from(["seed", "epochs", "teacher_temp", "center_momentum"]), value=st.sampled_from([0, 1]))
def test_every_changed_field_changes_the_fingerprint(field: str, value: float) -> None:
    changed = build_config({"warmup_epochs": 0, field: value})
    same = overrides(changed) == overrides(build_config({"warmup_epochs": 0}))
    assert (fingerprint(changed) == fingerprint(build_config({"warmup_epochs": 0}))) == same


def test_code_version_is_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(RunConfig())
    monkeypatch.setitem(module.CODE_VERSION, "pretrain", module.CODE_VERSION["pretrain"] + 1)
    assert fingerprint(RunConfig()) != before


def test_run_id_reads_well() -> None:
    config = build_config({"teacher": "student_copy", "epochs": 12.5, "warmup_epochs": 1, "seed": 2})
    assert run_id(config).startswith("dino-vits16-12.5ep-teacherstudent-copy-s2-")
    assert run_id(build_config({"epochs": 0})).startswith("dino-vits16-random-s0-")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"techer_temp": 0.1}, ["unknown key 'techer_temp'", "did you mean 'teacher_temp'"]),
        ({"epochs": -1}, ["epochs", "greater than or equal to 0", "-1"]),
        ({"arch": "vit_huge"}, ["arch", "vit_small"]),
        ({"local_crop_scale": (0.5, 0.1)}, ["local_crop_scale", "low <= high"]),
        ({"local_crop_size": 8}, ["local_crop_size", "patch_size"]),
        ({"epochs": 5}, ["warmup_epochs", "exceeds epochs"]),
        ({"objective": "dinno"}, ["objective", "did you mean 'dino'", "known: dino, byol"]),
        ({"objective": "byol", "loss": "mse"}, ["loss (mse)", "objective dino, not byol"]),
        ({"objective": "mocov2", "centering": "none"}, ["centering (none)", "objective dino, not mocov2"]),
        ({"loss": "mse", "centering": "sinkhorn"}, ["centering must be center or none", "sinkhorn"]),
        ({"objective": "swav"}, ["teacher to student_copy, not momentum", "centering sinkhorn"]),
        ({"objective": "byol", "head_bottleneck": False}, ["objective byol", "head_bottleneck cannot be false"]),
        ({"predictor": True, "head_bottleneck": False}, ["a predictor", "head_bottleneck cannot be false"]),
    ],
)
def test_mistakes_name_the_key(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build_config(values, where="here.yaml")
    for word in ["here.yaml", *words]:
        assert word in str(error.value)


def test_config_file_round_trips(tmp_path: Path) -> None:
    config = build_config({"seed": 4, "local_crop_scale": (0.1, 0.2), "warmup_teacher_temp": None})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert path.read_text() == dump_config(load_config(path))


def test_an_edited_config_file_is_refused(tmp_path: Path) -> None:
    document = yaml.safe_load(dump_config(RunConfig()))
    document["config"]["seed"] = 1
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match="edited by hand"):
        load_config(path)


@pytest.mark.parametrize("text", ["", "- a list", "a: [unclosed"])
def test_a_config_file_that_is_none_is_a_user_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_config(path)


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'vits16_100ep'"):
        load_recipe("vits16_10ep")
