from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dino.data.augment import MEAN, STD
from dino.errors import UserError
from dino.evaluation.features.whole_images import ImageList, Running, count_skipped, extract_list

CPU = torch.device("cpu")


@dataclass(frozen=True)
class AsItIs:
    def __call__(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        return image


def mean_and_size(images: torch.Tensor) -> torch.Tensor:
    """What tells images apart: the mean of their red pixels, height and width."""
    red = images[:, 0].mean((1, 2), dtype=torch.float64) * STD[0] + MEAN[0]
    rows, columns = images.shape[-2:]
    return torch.stack([red * 255, torch.full_like(red, rows), torch.full_like(red, columns)], dim=1)


def image_list(folder: Path, paths: list[str]) -> ImageList:
    return ImageList(what="pictures", root=folder, paths=paths, prepare=AsItIs(), prepared="")


def write_many(folder: Path, count: int) -> list[str]:
    for number in range(count):
        height = 4 + number % 3
        cv2.imwrite(str(folder / f"{number}.png"), np.full((height, 5, 3), number, dtype=np.uint8))
    return [f"{number}.png" for number in range(count)]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 0), (100, 0), (4, 2)])
def test_features_come_in_the_lists_order_whatever_the_batches(tmp_path: Path, batch_size: int, workers: int) -> None:
    paths = write_many(tmp_path, 23)
    running = Running(device=CPU, batch_size=batch_size, workers=workers)
    made = extract_list(mean_and_size, image_list(tmp_path, paths), running)
    expected = [[number, 4 + number % 3, 5] for number in range(23)]
    np.testing.assert_allclose(made.features, expected, atol=1e-3)
    assert made.indices.tolist() == list(range(23))
    assert made.skipped == []


def test_many_sizes_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino.evaluation.features.whole_images.BATCHES_WAITING", 1)
    batches: list[int] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        batches.append(len(images))
        return mean_and_size(images)

    made = extract_list(network, image_list(tmp_path, write_many(tmp_path, 23)), Running(device=CPU, batch_size=6))
    assert made.features[:, 0].round().tolist() == list(range(23))
    assert batches[0] == 2  # after six images of three sizes, not after eighteen
    assert max(batches) < 6


def test_grey_cmyk_sixteen_bit_and_tiny_images_are_read_and_damaged_ones_counted(tmp_path: Path) -> None:
    Image.new("L", (5, 4), 77).save(tmp_path / "grey.jpg")
    Image.new("CMYK", (5, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((4, 5), 257 * 99, dtype=np.uint16))
    Image.new("RGB", (1, 1), (11, 0, 0)).save(tmp_path / "tiny.png")
    Image.new("RGB", (64, 64), (200, 0, 0)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("hello")
    paths = ["cut.jpg", "grey.jpg", "cmyk.jpg", "text.jpg", "wide.png", "tiny.png"]
    images = image_list(tmp_path, paths)
    made = extract_list(mean_and_size, images, Running(device=CPU))
    assert made.indices.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(made.features[:, 0], [77, 254, 99, 11], atol=2)
    assert [message.split(":")[0] for message in made.skipped] == ["cut.jpg", "text.jpg"]
    (note,) = count_skipped(made, images)
    assert note.startswith("2 of 6 images of the pictures skipped: cut.jpg: ")
    assert str(tmp_path) not in note


def test_nothing_to_read_and_broken_networks_are_errors(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UserError, match=r"none of the 1 images of the pictures can be used; the first: text\.jpg: "):
        extract_list(mean_and_size, image_list(tmp_path, ["text.jpg"]), Running(device=CPU))
    paths = write_many(tmp_path, 3)
    with pytest.raises(UserError, match="of 3 of 3 images of the pictures are not finite numbers; its weights"):
        extract_list(lambda x: mean_and_size(x) * torch.nan, image_list(tmp_path, paths), Running(device=CPU))
