"""J and F against their definitions by brute force, and against the official code's numbers on real masks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dino.evaluation.davis.dataset import find_videos
from dino.evaluation.davis.masks import read_mask
from dino.evaluation.davis.protocol import score_results
from dino.evaluation.davis.scorer import boundary, disk, score_frame, score_frames, statistics

Bool = NDArray[np.bool_]


def naive_boundary(mask: Bool) -> Bool:
    """Pixels that differ from one of the three neighbours to the right and below that exist."""
    height, width = mask.shape
    found = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            block = mask[y : y + 2, x : x + 2]
            found[y, x] = block.min() != block.max()
    return found


def naive_scores(true: Bool, found: Bool) -> tuple[float, float]:
    """J and F of one object by distances of all pairs of boundary pixels."""
    union = (true | found).sum()
    j = (true & found).sum() / union if union else 1.0
    radius = math.ceil(0.008 * math.hypot(*true.shape))
    a, b = np.argwhere(naive_boundary(true)), np.argwhere(naive_boundary(found))
    if len(a) == 0 or len(b) == 0:
        return float(j), float(len(a) == len(b))
    near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return float(j), float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def blobs(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Discs of objects 1 to 3, some of them cut off by the frame's edge."""
    y, x = np.ogrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    for number in (1, 2, 3):
        top, left, radius = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(2, size[0] // 2)
        mask[(y - top) ** 2 + (x - left) ** 2 <= radius**2] = number
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_all_pairs_of_boundary_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    # Odd seeds: in a larger frame, where the tolerance is more than one pixel.
    border = ((0, 200), (90, 0)) if seed % 2 else ((0, 0), (0, 0))
    true, found = (np.pad(blobs(rng, size), border) for _ in range(2))
    j, f = score_frame(true, found, (1, 2, 3))
    for index, number in enumerate((1, 2, 3)):
        expected = naive_scores(true == number, found == number)
        assert (j[index], f[index]) == pytest.approx(expected, abs=1e-12)


def test_boundary_at_the_edges_of_the_frame() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.integers(0, 2, (7, 9)).astype(np.uint8)
        np.testing.assert_array_equal(boundary(mask), naive_boundary(mask.astype(bool)))


def test_disk_is_round() -> None:
    assert disk(2).tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]


def test_empty_masks() -> None:
    empty, full = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    full[5:10, 5:10] = 1
    for true, found, expected in ((empty, empty, 1.0), (empty, full, 0.0), (full, empty, 0.0), (full, full, 1.0)):
        j, f = score_frame(true, found, (1,))
        assert (j[0], f[0]) == (expected, expected)


def test_an_object_that_fills_the_frame_has_no_boundary() -> None:
    full = np.ones((20, 30), np.uint8)
    part = full.copy()
    part[:, :5] = 0
    assert [float(values[0]) for values in score_frame(full, full, (1,))] == [1.0, 1.0]
    j, f = score_frame(full, part, (1,))
    assert (j[0], f[0]) == (pytest.approx(25 / 30), 0.0)


def test_statistics_of_one_object() -> None:
    values = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    found = statistics(values)
    assert found.mean == pytest.approx(0.6)
    assert found.recall == pytest.approx(5 / 9)  # 0.5 itself does not count
    # Bounds at frames 1, 3, 5, 7 and 9, both included.
    assert found.decay == pytest.approx(np.mean([1.0, 0.9, 0.8]) - np.mean([0.4, 0.3, 0.2]))
    assert statistics(np.array([0.7])).decay == 0.0


def test_first_and_last_frame_are_left_to_the_caller() -> None:
    true = np.zeros((20, 20), np.uint8)
    true[5:15, 5:15] = 2
    scores = score_frames("s", (2,), ["1", "2"], lambda stem: (true, true if stem == "1" else np.zeros_like(true)))
    assert (scores[0].object, scores[0].frames, scores[0].j.mean, scores[0].f.recall) == (2, 2, 0.5, 0.5)


def test_single_objects_equal_the_official_code(reference_data: Path) -> None:
    expected = json.loads((reference_data / "davis-results" / "reference.json").read_text())["single"]
    davis = find_videos(str(reference_data / "davis"), sequences=list(expected))
    outcome = score_results(str(reference_data / "davis-results" / "osvos"), davis, workers=1)
    assert not outcome.skipped
    for score in outcome.scores:
        for measure, found in (("J", score.j), ("F", score.f)):
            assert [found.mean, found.recall, found.decay] == pytest.approx(expected[score.sequence][measure], abs=1e-6)
        assert score.frames == expected[score.sequence]["frames"]


def test_several_objects_equal_the_official_code(reference_data: Path) -> None:
    expected = json.loads((reference_data / "davis-results" / "reference.json").read_text())["multi"]
    for sequence, objects in expected.items():
        paths = sorted((reference_data / "davis-results" / "osvos" / sequence).glob("*.png"))
        masks = {path.stem: read_mask(path) for path in paths}
        pairs = {stem: (mask, np.roll(mask, (3, 5), (0, 1))) for stem, mask in masks.items()}
        numbers = tuple(map(int, objects))
        scores = score_frames(sequence, numbers, list(masks)[1:-1], pairs.__getitem__)
        for score in scores:
            for measure, found in (("J", score.j), ("F", score.f)):
                golden = objects[str(score.object)][measure]
                assert [found.mean, found.recall, found.decay] == pytest.approx(golden, abs=1e-6)
