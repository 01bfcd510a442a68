"""Micro-batches: a pure function of seed, epoch, number and rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino.config import RunConfig
from dino.data.loader import PretrainLoader, build_pretrain_loader
from dino.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 images of 16 pixels in two classes."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for number in range(22):
        path = root / "train" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return root


def loader(folder: Path, **values: object) -> PretrainLoader:
    options = {key: values.pop(key) for key in ("rank", "world_size", "workers", "budget") if key in values}
    fields = {"batch_size": 8, "patch_size": 4, "global_crop_size": 12, "local_crop_size": 8, "num_local_crops": 2}
    config = RunConfig(dataset=str(folder), **{**fields, **values})
    return build_pretrain_loader(config, device="cpu", **options)


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_shapes_and_the_last_incomplete_batch_is_dropped(folder: Path, budget: int):
    made = loader(folder, budget=budget)
    assert made.steps_per_epoch == 2
    groups = list(made.iterate(0))
    assert [[tuple(view.shape) for view in group] for group in groups] == [[(16, 3, 12, 12), (16, 3, 8, 8)]] * 2
    assert groups[0][0].dtype == torch.float32


def test_without_locals_there_is_one_group(folder: Path):
    assert [len(group) for group in loader(folder, num_local_crops=0).iterate(0)] == [1, 1]


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_starting_anywhere_gives_the_same_bits(folder: Path, budget: int):
    whole = [group for epoch in (0, 1) for group in loader(folder, budget=budget, accumulate_steps=2).iterate(epoch)]
    assert len(whole) == 8
    for start in range(4):
        resumed = list(loader(folder, budget=budget, accumulate_steps=2).iterate(1, start))
        assert all(same(a, b) for a, b in zip(resumed, whole[4 + start :], strict=True))


def test_worker_processes_change_nothing_and_global_random_states_are_left_alone(folder: Path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    alone = list(loader(folder, budget=0).iterate(1))
    for workers in (1, 2):
        torch.manual_seed(4)
        helped = list(loader(folder, budget=0, workers=workers).iterate(1))
        assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
    torch.manual_seed(3)
    list(loader(folder, budget=0, workers=1).iterate(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_cutting_on_the_device_and_in_workers_shows_the_same_crops_and_colours(folder: Path):
    for a, b in zip(loader(folder).iterate(0), loader(folder, budget=0).iterate(0), strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x - y).abs().median() <= 1 / (255 * 0.22)


def test_epochs_and_seeds_differ_in_order_and_in_views(folder: Path):
    made = loader(folder)
    assert made.indices(0, 0).tolist() != made.indices(1, 0).tolist()
    assert made.indices(0, 0).tolist() != loader(folder, seed=1).indices(0, 0).tolist()
    first, second = (next(loader(folder).iterate(epoch)) for epoch in (0, 1))
    assert not same(first, second)


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (4, 1), (2, 2), (1, 4)])
def test_ranks_and_micro_batches_share_out_each_batch(folder: Path, world_size: int, accumulate: int):
    whole = loader(folder)
    made = [loader(folder, rank=rank, world_size=world_size, accumulate_steps=accumulate) for rank in range(world_size)]
    for step in range(2):
        parts = [
            index
            for one in made
            for micro in range(accumulate)
            for index in one.indices(1, step * accumulate + micro).tolist()
        ]
        # The same images are in the same optimizer step however it is shared out.
        assert sorted(parts) == sorted(whole.indices(1, step).tolist())
        assert len(set(parts)) == 8
    assert {one.steps_per_epoch for one in made} == {2}
    if world_size > 1:
        assert not same(next(made[0].iterate(0)), next(made[1].iterate(0)))


def test_a_batch_that_does_not_divide_is_refused(folder: Path):
    with pytest.raises(UserError, match=r"batch_size 8 is not divisible by 3"):
        loader(folder, world_size=3)


def test_a_set_smaller_than_a_batch_is_refused(folder: Path):
    with pytest.raises(UserError, match=r"has 22 images, fewer than one batch of 32"):
        loader(folder, batch_size=32)


def test_a_configuration_for_another_version_of_the_set_is_refused(folder: Path):
    with pytest.raises(UserError, match="wants version 0123456789"):
        loader(folder, dataset_version="0123456789")


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_a_corrupt_file_is_replaced_by_its_neighbour_and_counted_once(tmp_path: Path, budget: int):
    for number in range(8):
        path = tmp_path / "train" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)).save(path)
    (tmp_path / "train" / "a" / "3.png").write_bytes(b"no image")
    made = loader(tmp_path, budget=budget, num_local_crops=0, color_jitter=0.0)
    views = [next(made.iterate(epoch))[0] for epoch in range(3)]
    assert views[0].shape == (16, 3, 12, 12)
    assert len(made.skipped) == 1
    assert "3.png" in made.skipped[0]
    # Image 3's rows of the first view (blurred, flat: unchanged) show image 4.
    row = made.indices(2, 0).tolist().index(3)
    shown = views[2][row] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    shown = (shown + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) * 255
    torch.testing.assert_close(shown, torch.full_like(shown, 80.0), atol=0.51, rtol=0)
