from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dino.evaluation.attention_maps import enlarge
from dino.evaluation.masks.jaccard import count_objects, jaccard
from dino.evaluation.masks.voc import resize_labels


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["ignore", "background"]))
def test_patches_give_what_counting_all_pixels_gives(seed: int, void: str) -> None:
    generator = np.random.default_rng(seed)
    rows, columns, patch = generator.integers(1, 6, 3).tolist()
    labels = generator.choice([0, 3, 7, 255], size=(rows * patch, columns * patch), p=[0.4, 0.3, 0.2, 0.1])
    masks = generator.random((4, rows * columns)) < 0.5
    objects = count_objects(labels, patch, void=void)
    overlaps = jaccard(masks, objects)
    assert objects.ids.tolist() == sorted({3, 7} & set(labels.ravel().tolist()))
    counted = labels != 255 if void == "ignore" else np.ones(labels.shape, dtype=bool)
    for row, number in enumerate(objects.ids):
        for head, mask in enumerate(masks):
            predicted = enlarge(mask.reshape(rows, columns), patch).astype(bool)
            region = labels == number
            expected = (predicted & region & counted).sum() / ((predicted | region) & counted).sum()
            assert overlaps[row, head] == expected


def test_background_and_void_are_no_objects() -> None:
    labels = np.array([[0, 255], [255, 0]])
    objects = count_objects(labels, 1)
    assert objects.ids.size == 0
    assert jaccard(np.ones((2, 4), dtype=bool), objects).shape == (0, 2)


def test_labels_are_resampled_as_pillow_does() -> None:
    labels = np.random.default_rng(0).integers(0, 20, (37, 53))
    for size in [(37, 53), (80, 64), (20, 31), (53, 37)]:
        image = Image.fromarray(labels.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
        assert np.array_equal(resize_labels(labels, size), np.asarray(image))
