"""The recipes hold what the released models' arguments say (paper.md, A.8)."""

from __future__ import annotations

from typing import Any

import pytest

from dino.config import RECIPES, build_config, load_recipe, run_id

# epochs, batch, optimizer, base lr, min lr, decay start and end, clip, last layer normalised, frozen epochs,
# temperature start, end, warm-up epochs, globals' lower scale, locals, their upper scale, K, BN in the head
RELEASED: dict[str, tuple[Any, ...]] = {
    "vits16_800ep": (
        *(800, 1024, "adamw", 5e-4, 1e-5, 0.04, 0.4, 0.0, False, 1),
        *(0.04, 0.07, 30, 0.25, 10, 0.25, 65536, False),
    ),
    "vits8_800ep": (
        *(800, 1024, "adamw", 5e-4, 1e-6, 0.04, 0.4, 3.0, False, 1),
        *(0.04, 0.07, 30, 0.4, 10, 0.4, 65536, False),
    ),
    "vitb16_400ep": (
        *(400, 1024, "adamw", 7.5e-4, 2e-6, 0.04, 0.4, 0.3, True, 3),
        *(0.04, 0.07, 50, 0.25, 10, 0.25, 65536, False),
    ),
    "vitb8_300ep": (
        *(300, 1056, "adamw", 5e-4, 2e-6, 0.04, 0.4, 3.0, True, 3),
        *(0.03, 0.07, 50, 0.25, 10, 0.25, 65536, False),
    ),
    "resnet50_800ep": (
        *(800, 4080, "lars", 0.3, 0.0048, 1e-6, 1e-6, 0.0, True, 1),
        *(0.04, 0.07, 50, 0.14, 6, 0.14, 60000, True),
    ),
}
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_s_recipe_is_its_published_arguments(name: str) -> None:
    config = build_config(load_recipe(name))
    assert (
        *(config.epochs, config.batch_size, config.optimizer, config.base_lr, config.min_lr),
        *(config.weight_decay, config.weight_decay_end, config.clip_grad, config.norm_last_layer),
        *(config.freeze_last_layer_epochs, config.warmup_teacher_temp, config.teacher_temp),
        *(config.warmup_teacher_temp_epochs, config.global_crop_scale[0], config.num_local_crops),
        *(config.local_crop_scale[1], config.out_dim, config.head_bn),
    ) == RELEASED[name]
    assert config.precision == "fp32"
    assert config.teacher_momentum == 0.996
    assert config.warmup_epochs == 10


def test_the_peak_learning_rates_are_those_of_the_released_runs() -> None:
    peaks = {name: load_recipe(name) for name in ("vits16_800ep", "vitb16_400ep", "resnet50_800ep")}
    scaled = {name: values.get("base_lr", 5e-4) * values["batch_size"] / 256 for name, values in peaks.items()}
    assert scaled == pytest.approx({"vits16_800ep": 0.002, "vitb16_400ep": 0.003, "resnet50_800ep": 4.78125})


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid_and_opens_with_its_source(name: str) -> None:
    build_config(load_recipe(name), where=name)
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")


def test_no_two_recipes_are_the_same_run() -> None:
    ids = [run_id(build_config(load_recipe(name))) for name in NAMES]
    assert len(set(ids)) == len(ids)
