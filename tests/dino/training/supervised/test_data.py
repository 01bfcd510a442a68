from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment

from dino.data.datasets import resolve_dataset
from dino.errors import UserError
from dino.running.distributed import World
from dino.training.supervised.data import LabelledLoader, isolated
from tests.dino.training.supervised.labelled import tiny_settings, write_images

CPU = torch.device("cpu")


def loader(folder: Path, *, workers: int = 0, world: World | None = None, **changes: object) -> LabelledLoader:
    images = resolve_dataset(folder, split="train")
    return LabelledLoader(tiny_settings(**changes), images, device=CPU, world=world or World(), workers=workers)


def test_targets_are_distributions_and_images_are_what_was_asked_for(tmp_path: Path) -> None:
    for changes in ({}, {"mixup": 0.0}, {"mixup": 0.0, "cutmix": 0.0}):
        for images, targets in loader(write_images(tmp_path), **changes).iterate(0):
            assert images.shape == (8, 3, 16, 16)
            assert targets.shape == (8, 3)
            assert torch.allclose(targets.sum(1), torch.ones(8))


def test_without_mixing_a_target_is_its_smoothed_label(tmp_path: Path) -> None:
    made = loader(write_images(tmp_path), mixup=0.0, cutmix=0.0, label_smoothing=0.3, repeats=1)
    order = made.indices(0)
    _, targets = next(iter(made.iterate(0)))
    labels = torch.from_numpy(made.images.labels)[order[:8]]
    assert torch.equal(targets.argmax(1), labels)
    assert torch.allclose(targets.max(1).values, torch.full((8,), 0.7 + 0.1))


def test_an_epoch_has_a_third_of_the_images_three_times_each(tmp_path: Path) -> None:
    made = loader(write_images(tmp_path))
    order = made.indices(0).tolist()
    assert len(order) == 24
    assert len(set(order)) == 8
    assert all(order[3 * i] == order[3 * i + 1] == order[3 * i + 2] for i in range(8))
    assert made.indices(1).tolist() != order


def test_a_batch_is_the_same_from_wherever_it_is_reached_and_with_worker_processes(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    whole = list(loader(folder, rand_augment="rand-m9-mstd0.5-inc1", random_erasing=0.5).iterate(1))
    torch.manual_seed(123)
    later = list(loader(folder, rand_augment="rand-m9-mstd0.5-inc1", random_erasing=0.5).iterate(1, 2))
    forked = list(loader(folder, rand_augment="rand-m9-mstd0.5-inc1", random_erasing=0.5, workers=1).iterate(1, 2))
    assert len(whole) == 3
    for other in (later, forked):
        assert torch.equal(whole[2][0], other[0][0])
        assert torch.equal(whole[2][1], other[0][1])


def test_randaugment_at_its_largest_magnitude_posterizes_to_black(tmp_path: Path) -> None:
    made = loader(write_images(tmp_path), rand_augment="rand-m10-mstd0-inc1", random_erasing=0.0)
    (augment,) = (each for each in made._augmented.transform.transforms if isinstance(each, RandAugment))
    (operation,) = (each for each in augment.ops if each.name == "PosterizeIncreasing")
    operation.prob = 1.0
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    assert np.asarray(operation(image)).max() == 0
    operation.magnitude = 5  # 2 bits
    assert np.asarray(operation(image))[0, 0].tolist() == [192, 64, 0]


def test_ranks_share_a_batch_and_neighbours_are_on_different_ranks(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    parts = [loader(folder, world=World(rank, 2, rank), mixup=0.0, cutmix=0.0, repeats=2) for rank in (0, 1)]
    whole = loader(folder, mixup=0.0, cutmix=0.0, repeats=2)
    first, second = (next(iter(part.iterate(0))) for part in parts)
    together, _ = next(iter(whole.iterate(0)))
    assert torch.equal(together[0::2], first[0])
    assert torch.equal(together[1::2], second[0])


def test_the_global_generators_are_left_as_they_were() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    with isolated(7):
        drawn = (torch.rand(1).item(), random.random(), np.random.rand())  # noqa: NPY002
    with isolated(7):
        assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_what_cannot_be_a_batch_is_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    with pytest.raises(UserError, match="24 images, fewer than one batch of 64"):
        loader(folder, batch_size=64)
    with pytest.raises(UserError, match="even batch"):
        loader(folder, batch_size=9)
    with pytest.raises(UserError, match="does not divide"):
        loader(folder, batch_size=8, accumulate_steps=3)


def test_an_unreadable_image_is_replaced_by_its_neighbour_with_that_one_s_label(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    (folder / "train" / "blue" / "007.png").write_bytes(b"no image")
    made = loader(folder, mixup=0.0, cutmix=0.0, repeats=1, label_smoothing=0.0)
    images = torch.cat([batch for batch, _ in made.iterate(0)])
    targets = torch.cat([target for _, target in made.iterate(0)])
    place = made.indices(0).tolist().index(7)
    assert made.images.classes[int(targets[place].argmax())] == "green"
    assert int(images[place].mean((1, 2)).argmax()) == 1
    assert len(made.images.skipped) == 1
