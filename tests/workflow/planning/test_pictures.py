"""Pictures at a scale: which run, which data, which file, and why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.inputs.call import Settings
from workflow.planning.picture_rules import planned_pictures
from workflow.planning.plan import make_plan
from workflow.planning.planner import Planner


class Wildcards(dict[str, str]):
    """As Snakemake's: a mapping whose keys are attributes."""

    def __getattr__(self, name: str) -> str:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def planner_of(root: Path, **settings: object) -> Planner:
    return Planner(
        root=root,
        settings=Settings(**{"scale": "laptop", "studies": ["pictures"], "headline": ["teacher"], **settings}),
    )


def test_pictures_are_of_the_first_seed_of_their_variant(project: Path):
    plan = make_plan(scale="laptop", studies=["pictures"], seeds=2, root=project)
    drawn = {each.name: each for each in planned_pictures(plan, "pictures")}
    assert {name: str(each.file) for name, each in drawn.items()} == {
        "heads": "pictures/pictures/heads/index.json",
        "overlays": "pictures/pictures/overlays/index.json",
        "reference_points": "pictures/pictures/reference_points/index.json",
        "classes": "pictures/pictures/classes.png",
    }
    assert {name: each.dataset for name, each in drawn.items()} == {
        **dict.fromkeys(("heads", "overlays", "reference_points"), "voc-laptop"),
        "classes": "world-laptop",
    }
    rows = {name["variant"] for name in drawn["heads"].run.names}
    assert rows == {"vits8"}
    assert all(each.run.seed == 0 for each in drawn.values())


def test_a_missing_data_set_leaves_the_picture_out_and_says_so(project: Path):
    drawn = planned_pictures(make_plan(scale="paper", studies=["pictures"], root=project), "pictures")
    assert all(each.run is None for each in drawn)
    assert all("data set" in str(each.missing) for each in drawn)
    assert planner_of(project, scale="paper").pictures.files(Wildcards(scale="paper")) == []


def test_rules_get_checkpoint_data_and_settings(project: Path):
    planner = planner_of(project)
    wildcards = Wildcards(scale="laptop", study="pictures", picture="reference_points")
    rules = planner.pictures
    assert rules.checkpoint(wildcards).endswith("/checkpoint.pth")
    assert rules.dataset(wildcards) == "voc-laptop"
    assert rules.model(wildcards) == ""
    assert rules.options(wildcards) == ("--images 4 --image-size 64 --points 30%,30% 70%,30% 50%,70% --threshold 0")
    overlay = rules.options(Wildcards(scale="laptop", study="pictures", picture="overlays"))
    assert "--overlay" in overlay
    assert "--contours" not in overlay
    assert "results/data/voc-laptop/manifest.json" in rules.data("results/{scale}/x.json")(wildcards)
    classes = Wildcards(scale="laptop", study="pictures", picture="classes")
    assert rules.features(classes).endswith("features-world-laptop-test.npz")
    assert rules.options(classes).startswith("--pca 30 --perplexity 5 ")


def test_an_unknown_picture_is_named_with_the_nearest(project: Path):
    with pytest.raises(UserError, match="no picture 'head' in pictures; did you mean 'heads'"):
        planner_of(project).pictures.options(Wildcards(scale="laptop", study="pictures", picture="head"))
