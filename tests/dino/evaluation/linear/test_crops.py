from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino.data.augment import MEAN, STD
from dino.data.datasets import ImageSet, resolve_dataset
from dino.evaluation.linear.crops import CropPart, TrainCrops


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of one size in two classes; an image's grey value is ten times its number."""
    for number in range(10):
        path = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (10 * number,) * 3).save(path)
    return tmp_path


def build_crops(images: ImageSet, **changes) -> TrainCrops:
    values = {"size": 8, "batch_size": 4, "micro_batch": 3, "seed": 0, "device": torch.device("cpu")}
    return TrainCrops(images, **{**values, **changes})


def grey_values(part: CropPart) -> list[int]:
    """Of each image, and each is of one colour."""
    pixels = part.images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert float(pixels.flatten(1).std(dim=1).max()) < 1e-3
    return (255 * pixels.flatten(1).mean(dim=1)).round().int().tolist()


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_an_epoch_shows_every_image_once_in_batches_of_parts(folder: Path, budget: int) -> None:
    images = resolve_dataset(folder)
    crops = build_crops(images, budget=budget)
    parts = list(crops.iterate(0))
    assert [(len(part.images), part.ends_batch) for part in parts] == [
        *((3, False), (1, True), (3, False), (1, True), (2, True))
    ]
    assert crops.batches == 3
    indices = torch.cat([part.indices for part in parts])
    assert sorted(indices.tolist()) == list(range(10))
    for part in parts:
        names = [Path(images.paths[index]).stem for index in part.indices.tolist()]
        assert grey_values(part) == [10 * int(name) for name in names]


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_an_epoch_entered_late_goes_on_with_the_same_bits(folder: Path, budget: int) -> None:
    images = resolve_dataset(folder)
    whole = list(build_crops(images, budget=budget).iterate(3))
    late = list(build_crops(images, budget=budget).iterate(3, 1))
    assert len(late) == len(whole) - 2
    for ours, theirs in zip(late, whole[2:], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.indices, theirs.indices)
    others = torch.cat([part.indices for part in build_crops(images, budget=budget).iterate(4)])
    assert others.tolist() != torch.cat([part.indices for part in whole]).tolist()


def test_processes_that_read_change_nothing(folder: Path) -> None:
    images = resolve_dataset(folder)
    alone, helped = (list(build_crops(images, budget=0, workers=workers).iterate(0)) for workers in (0, 2))
    for ours, theirs in zip(alone, helped, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.indices, theirs.indices)


def test_a_decoded_set_and_files_give_the_same_crops(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for number in range(4):
        pixels = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number}.png")
    images = resolve_dataset(tmp_path)
    decoded, files = (list(build_crops(images, size=16, budget=budget).iterate(0)) for budget in (1 << 30, 0))
    for ours, theirs in zip(decoded, files, strict=True):
        assert (ours.images - theirs.images).abs().max() <= 2.5 / 255 / min(STD)
        assert torch.equal(ours.indices, theirs.indices)


def test_crops_cover_between_a_twelfth_and_all_of_an_image_and_half_are_mirrored(tmp_path: Path) -> None:
    # Red grows to the right and green downwards: a crop's range of both is its extent.
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.zeros((64, 64), np.uint8)], axis=2)
    (tmp_path / "a").mkdir()
    for number in range(300):
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number}.png")
    crops = build_crops(resolve_dataset(tmp_path), size=32, batch_size=300, micro_batch=300)
    (part,) = crops.iterate(0)
    red, green = (part.images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1))[:, :2].unbind(1)
    extent = (red[:, 0, -1] - red[:, 0, 0]).abs(), green[:, -1, 0] - green[:, 0, 0]
    share = extent[0] * extent[1]
    assert 0.04 < float(share.min()) < 0.12
    assert 0.85 < float(share.max()) <= 1.0
    assert float(share.mean()) == pytest.approx(0.5, abs=0.06)
    assert float((red[:, 0, -1] < red[:, 0, 0]).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_a_corrupt_file_is_told_and_never_gives_its_label_to_another_image(folder: Path, budget: int) -> None:
    images = resolve_dataset(folder)
    (folder / "train" / images.paths[4]).write_bytes(b"no image")
    crops = build_crops(images, budget=budget)
    parts = list(crops.iterate(0))
    indices = torch.cat([part.indices for part in parts]).tolist()
    assert 4 not in indices
    assert len(indices) == len(crops) == (9 if budget else 10)
    assert indices.count(5) == (1 if budget else 2)  # its neighbour takes its place
    for part in parts:
        names = [Path(images.paths[index]).stem for index in part.indices.tolist()]
        assert grey_values(part) == [10 * int(name) for name in names]
    assert len(images.skipped) == 1
