from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino.evaluation.davis.masks import PALETTE, MaskCode, SequenceDefect, read_mask, resize_nearest, write_mask


def grey(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_palette_is_the_one_of_davis_and_voc() -> None:
    assert PALETTE[:9].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    assert PALETTE[255].tolist() == [224, 224, 192]
    assert len(np.unique(PALETTE, axis=0)) == 256


def test_palette_is_that_of_real_results(reference_data: Path) -> None:
    path = next((reference_data / "davis-results" / "osvos" / "judo").glob("*.png"))
    with Image.open(path) as image:
        stored = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(PALETTE[: len(stored)], stored)


def test_written_masks_are_palette_images_that_read_back(tmp_path: Path) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_mask(tmp_path / "deep" / "00000.png", mask)
    with Image.open(tmp_path / "deep" / "00000.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "deep" / "00000.png"), mask)


def test_black_and_white_masks_are_one_object() -> None:
    code = MaskCode.of(grey(0, 255, 255))
    assert (code.binary, code.objects) == (True, (1,))
    assert code.annotation(grey(0, 3, 127, 128, 255)).tolist() == [[0, 0, 0, 1, 1]]
    assert code.result(grey(0, 1, 0), Path("r")).tolist() == [[0, 1, 0]]
    assert code.result(grey(0, 255, 90), Path("r")).tolist() == [[0, 1, 0]]


def test_numbered_masks_keep_the_first_frames_objects_and_drop_void() -> None:
    code = MaskCode.of(grey(0, 2, 5, 255))
    assert (code.binary, code.objects) == (False, (2, 5))
    assert code.annotation(grey(0, 2, 5, 7, 255)).tolist() == [[0, 2, 5, 0, 0]]
    assert code.result(grey(5, 0), Path("r")).tolist() == [[5, 0]]
    with pytest.raises(SequenceDefect, match=r"r: index 3 is no object of the first annotation \(it shows 2, 5\)"):
        code.result(grey(0, 3), Path("r"))


def test_results_of_a_single_object_may_be_black_and_white() -> None:
    code = MaskCode.of(grey(0, 1))
    assert code.result(grey(0, 255), Path("r")).tolist() == [[0, 1]]
    with pytest.raises(SequenceDefect, match="index 2 is no object"):
        code.result(grey(0, 2), Path("r"))


def test_a_mask_without_an_object_has_none() -> None:
    assert MaskCode.of(grey(0, 0)).objects == ()


def test_one_bit_masks_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[255, 0]]


def test_unusable_files_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    write_mask(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("no image")
    for name, message in (
        ("colour.png", "not RGB"),
        ("cut.png", "[Tt]runcated"),
        ("text.png", "cannot identify"),
        ("none.png", "no such mask"),
    ):
        with pytest.raises(SequenceDefect, match=rf"{name}: .*{message}"):
            read_mask(tmp_path / name)


def test_nearest_resize_takes_the_middle_of_each_cell() -> None:
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert resize_nearest(mask, 2, 2).tolist() == [[5, 7], [13, 15]]
    assert resize_nearest(mask[:1, :2], 2, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
