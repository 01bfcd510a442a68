"""What jobs ask for: at the paper's scale, what the authors ran each recipe on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino.config import build_config, load_recipe
from workflow.inputs.resources import Resources
from workflow.inputs.scale_files import load_scale
from workflow.inputs.scales import Scale
from workflow.planning.plan import make_plan

# GPUs x images of each (paper.md, A.8; the README's arguments; issue #122; issue #34's batch on the paper's 16).
AUTHORS = {
    "vits16_800ep": (16, 64), "vits8_800ep": (64, 16), "vitb16_400ep": (32, 32), "vitb8_300ep": (176, 6),
    "resnet50_800ep": (80, 51), "vits16_300ep_2crops": (16, 64), "vits8_300ep": (64, 16), "vits16_100ep": (16, 64),
    "vits16_vanilla": (8, 64), "vits16_boost": (16, 64), "resnet50_100ep": (8, 64), "mocov2_vits16_300ep": (16, 64),
}  # fmt: skip


@pytest.fixture(scope="module")
def paper(project_root: Path) -> Scale:
    return load_scale(project_root / "workflow" / "scales", "paper")


def asks(scale: Scale, recipe: str, **changes: object) -> tuple[int, Resources]:
    """A run's batch and what its pretraining asks for."""
    config = build_config({**load_recipe(recipe), **changes})
    return config.batch_size, scale.resources_of("pretrain", config.model_dump())


@pytest.mark.parametrize("recipe", AUTHORS)
def test_a_recipe_runs_on_the_authors_number_of_gpus_with_one_task_each(paper: Scale, recipe: str):
    batch, found = asks(paper, recipe)
    ranks = found.nodes * found.tasks_per_node
    assert (found.gpus, ranks) == (AUTHORS[recipe][0], AUTHORS[recipe][0])
    assert batch == ranks * AUTHORS[recipe][1]
    assert found.runtime == 2800  # minutes, the default of their launcher


@pytest.mark.parametrize(("batch", "gpus"), [(8, 1), (128, 1), (256, 4), (512, 8), (1024, 16)])
def test_batches_of_table_9_run_on_as_many_gpus_as_64_images_fill(paper: Scale, batch: int, gpus: int):
    assert asks(paper, "vits16_100ep", batch_size=batch, num_local_crops=0)[1].gpus == gpus


def test_random_weights_need_no_gpu(paper: Scale):
    found = asks(paper, "vitb8_300ep", epochs=0)[1]
    assert (found.gpus, found.nodes, found.tasks_per_node) == (0, 1, 1)


def test_every_pretraining_of_the_paper_divides_its_batch_among_its_ranks(project: Path):
    plan = make_plan(scale="paper", studies="all", root=project, assume_data=True)
    configs = [run.config for run in plan.runs.values() if run.config is not None]
    assert len(configs) > 72
    for config in configs:
        found = plan.scale.resources_of("pretrain", config.model_dump())
        assert config.batch_size % (found.nodes * found.tasks_per_node) == 0, config
        assert found.tasks_per_node == max(1, found.gpu), "one task a GPU"


@pytest.mark.parametrize("scale", ["paper", "gpu"])
def test_every_job_that_runs_a_network_asks_for_a_gpu(project_root: Path, scale: str):
    loaded = load_scale(project_root / "workflow" / "scales", scale)
    plan = make_plan(scale=scale, studies="all", root=project_root, assume_data=True)
    protocols = {placed.protocol for run in plan.runs.values() for placed in run.evaluations.values()}
    rules = {"extract_features", *(f"evaluate_{protocol}" for protocol in protocols - {"pretrain"})}
    assert "evaluate_knn" in rules
    assert [rule for rule in sorted(rules) if loaded.resources_of(rule).gpu < 1] == []
