from __future__ import annotations

from pathlib import Path

import numpy as np

from dino.data.datasets import resolve_dataset
from dino.evaluation.linear.held_out import choose_held_out, part_of
from tests.dino.training.supervised.labelled import write_images


def test_held_out_images_are_a_share_of_every_class_that_can_spare_one() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 20, 2, 1])
    held_out = choose_held_out(labels, 0.1)
    assert [int(held_out[labels == label].sum()) for label in range(4)] == [5, 2, 1, 0]
    assert np.array_equal(held_out, choose_held_out(labels, 0.1))
    assert [int(choose_held_out(labels, 0.5)[labels == label].sum()) for label in range(4)] == [25, 10, 1, 0]


def test_part_of_a_split_keeps_paths_labels_and_pixels_together(tmp_path: Path) -> None:
    images = resolve_dataset(write_images(tmp_path / "data", train=12))
    rows = np.array([3, 20])
    part = part_of(images, rows)
    assert len(part) == 2
    for place, row in enumerate(rows):
        assert part.labels[place] == images.labels[row]
        assert np.array_equal(part.read(place), images.read(int(row)))
