"""Scales: how a recipe in the paper's units becomes what is run."""

from __future__ import annotations

import pytest

from dino.config import RunConfig, build_config, load_recipe, run_id
from dino.errors import UserError
from workflow.inputs.evaluations import evaluations
from workflow.inputs.scale_files import load_scale, scale_names
from workflow.inputs.scales import Scale

RECIPE = {"arch": "vit_small", "patch_size": 16, "epochs": 100, "batch_size": 1024, "num_local_crops": 6}


def make_scale(**values) -> Scale:
    return Scale(name="test", path="test.yaml", title="Test", **values)


def resolve(scale: Scale, override: dict | None = None, recipe: dict | None = None) -> RunConfig:
    return scale.resolve(recipe or RECIPE, override or {}, seed=0, where="here")


@pytest.mark.parametrize("recipe", ["vits16_100ep", "vits16_300ep"])
def test_paper_scale_rewrites_nothing(project, recipe: str):
    paper = load_scale(project / "workflow" / "scales", "paper")
    assert paper.comparable
    values = load_recipe(recipe)
    assert resolve(paper, recipe=values) == build_config(values)


def test_only_the_paper_scale_is_comparable_with_imagenet(project):
    folder = project / "workflow" / "scales"
    assert [name for name in scale_names(folder) if load_scale(folder, name).comparable] == ["paper"]


def test_epochs_are_linear_between_the_listed_points():
    scale = make_scale(epochs={0: 0, 100: 10, 300: 20})
    assert [resolve(scale, {"epochs": epochs}).epochs for epochs in (50, 100, 200, 300)] == [5, 10, 15, 20]


def test_durations_keep_their_share_of_the_run():
    scale = make_scale(epochs={0: 0, 100: 10, 300: 20})
    config = resolve(scale, {"epochs": 300, "warmup_teacher_temp_epochs": 60})
    assert config.warmup_epochs / config.epochs == pytest.approx(10 / 300, abs=1e-6)
    assert config.freeze_last_layer_epochs / config.epochs == pytest.approx(1 / 300, abs=1e-6)
    assert config.warmup_teacher_temp_epochs == 4


def test_epochs_beyond_the_listed_points_name_the_scale_file():
    with pytest.raises(UserError, match=r"here: length 900 epochs has no counterpart .* 'epochs' in test.yaml"):
        resolve(make_scale(epochs={0: 0, 100: 10}), {"epochs": 900})


def test_set_replaces_the_recipe_but_not_the_variant():
    scale = make_scale(set={"teacher_temp": 0.05, "batch_size": 64})
    assert resolve(scale).teacher_temp == 0.05
    config = resolve(scale, {"teacher_temp": 0.08})
    assert (config.teacher_temp, config.batch_size) == (0.08, 64)


def test_map_and_multiply_apply_to_recipe_and_variant_alike():
    scale = make_scale(map={"num_local_crops": {6: 2, 10: 4}}, multiply={"out_dim": 1 / 64})
    assert (resolve(scale).num_local_crops, resolve(scale).out_dim) == (2, 1024)
    config = resolve(scale, {"num_local_crops": 10, "out_dim": 4096})
    assert (config.num_local_crops, config.out_dim) == (4, 64)


def test_option_that_is_off_stays_off_when_its_field_is_multiplied():
    scale = make_scale(multiply={"warmup_teacher_temp": 1.25})
    assert resolve(scale, {"warmup_teacher_temp": None}).warmup_teacher_temp is None
    assert resolve(scale, {"warmup_teacher_temp": 0.04}).warmup_teacher_temp == 0.05


def test_value_without_a_counterpart_names_the_scale_file():
    scale = make_scale(map={"num_local_crops": {6: 2}})
    with pytest.raises(UserError, match=r"num_local_crops 8 has no counterpart .* 'map: num_local_crops' in test.yaml"):
        resolve(scale, {"num_local_crops": 8})


def test_architecture_is_replaced_and_a_variants_own_heads_stay():
    scale = make_scale(architectures={"vit_small/16": {"arch": "vit_nano", "patch_size": 4, "num_heads": 4}})
    assert (resolve(scale).arch, resolve(scale).patch_size, resolve(scale).num_heads) == ("vit_nano", 4, 4)
    assert resolve(scale, {"num_heads": 8}).num_heads == 8
    with pytest.raises(UserError, match="architecture vit_base/16 has no counterpart"):
        resolve(scale, {"arch": "vit_base"})


def test_random_row_is_one_run_whatever_its_study_trains_with(project):
    laptop = load_scale(project / "workflow" / "scales", "laptop")
    rows = [
        laptop.resolve(load_recipe(recipe), {"epochs": 0, **override}, seed=0, where="here")
        for recipe in ("vits16_100ep", "vits16_300ep")
        for override in ({}, {"teacher_temp": 0.02}, {"num_local_crops": 2, "clip_grad": 1.0})
    ]
    assert len({run_id(row) for row in rows}) == 1
    other_seed = laptop.resolve(load_recipe("vits16_100ep"), {"epochs": 0}, seed=1, where="here")
    other_width = laptop.resolve(load_recipe("vits16_100ep"), {"epochs": 0, "embed_dim": 32}, seed=0, where="here")
    assert len({run_id(rows[0]), run_id(other_seed), run_id(other_width)}) == 3


def test_variants_are_checked_in_the_papers_units_first():
    with pytest.raises(UserError, match="here: 'teacher_temp'"):
        resolve(make_scale(), {"teacher_temp": -1})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("subsets:", "subset:", ["unknown key 'subset'", "did you mean 'subsets'"]),
        ("  out_dim:", "  out_dims:", ["unknown key 'out_dims'", "did you mean 'out_dim'"]),
        ("  local_crop_size:", "  local_cropsize:", ["unknown key 'local_cropsize'", "did you mean 'local_crop_size'"]),
        ("headline_k: 5,", "headline_k: 7,", ["protocols.knn", "headline_k must be one of k"]),
        ("300: 2,", "300: 0.5,", ["'epochs'", "must not fall"]),
        ("  evaluate_knn:", "  evaluate_kn:", ["unknown rule 'evaluate_kn'", "did you mean 'evaluate_knn'"]),
        ("vit_nano, patch_size: 2, embed_dim", "vit_nano, patch_size: 2, embeddim", ["unknown key 'embeddim'"]),
        ("  head_hidden_dim: 64", "  seed: 3", ["set.seed"]),
    ],
)
def test_mistake_in_a_scale_names_file_line_and_key(project, edit, old: str, new: str, words: list[str]):
    path = edit("workflow/scales/smoke.yaml", old, new)
    line = path.read_text(encoding="utf-8").split(new)[0].count("\n") + 1
    with pytest.raises(UserError) as caught:
        load_scale(project / "workflow" / "scales", "smoke")
    message = str(caught.value)
    assert message.startswith(f"workflow/scales/smoke.yaml, line {line}: "), message
    for word in words:
        assert word in message


def test_unknown_scale_suggests_the_nearest(project):
    with pytest.raises(UserError, match="no scale 'labtop'; did you mean 'laptop'"):
        load_scale(project / "workflow" / "scales", "labtop")


@pytest.mark.parametrize(
    ("architecture", "headline"), [("vit_small/16", None), ("vit_base/16", "pool"), ("vit_base/8", "pool")]
)
def test_the_headline_of_linear_probes_is_the_papers_for_the_backbone_that_is_stood_for(
    project, architecture: str, headline: str | None
):
    for name in ("smoke", "laptop", "gpu", "paper"):
        scale = load_scale(project / "workflow" / "scales", name)
        assert scale.settings_of(evaluations()["linear"], architecture).headline == headline


def test_the_paper_scales_linear_probes_are_the_published_recipe(project):
    paper = load_scale(project / "workflow" / "scales", "paper")
    options = paper.settings_of(evaluations()["linear"], "vit_base/16").options()
    assert options == "--epochs 100 --batch-size 1024 --headline pool --image-size 224 --resize 256"
