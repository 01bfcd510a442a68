"""The protocol on scenes whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from dino.errors import UserError
from dino.evaluation.masks.protocol import MaskSettings, evaluate_masks, format_table
from dino.evaluation.masks.voc import find_scenes
from dino.metrics import MetricsFile
from tests.dino.evaluation.masks.scenes import IDENTITY, Bright, write_list, write_scene


def measure(root: Path, **changes: Any) -> MetricsFile:
    settings = MaskSettings(**{"device": torch.device("cpu"), "image_size": 64, **changes})
    return evaluate_masks(cast(Any, Bright()), IDENTITY, find_scenes(str(root), "val"), settings)


def value(document: MetricsFile, name: str) -> float:
    return document.metrics[name].value


def test_each_object_takes_its_best_head(tmp_path: Path) -> None:
    # 8 x 8 patches. Class 1 is the bright quarter, found whole at (nearly) all of the mass; class 2 is dark.
    write_scene(tmp_path, "a", (64, 64), {1: (0, 0, 32, 32), 2: (32, 0, 64, 64)}, bright=1)
    document = measure(tmp_path)
    # 60 % of 16 equal patches are 10; 60 % of the 48 dark ones are 29, and which of them cannot matter much.
    bright = 10 / 16
    assert value(document, "jaccard") == pytest.approx(100 * (bright + best_of_the_dark(tmp_path)) / 2, abs=1e-6)
    assert document.metrics["jaccard"].n == 1
    assert value(document, "jaccard_80") > value(document, "jaccard")
    assert document.settings["objects"] == 2


def best_of_the_dark(root: Path) -> float:
    """Object 2 alone, by the single heads' means: the mean over both objects less object 1's part."""
    by_head = measure(root).settings["jaccard_by_head"]
    return 2 * by_head[1] / 100  # head 1 (dark) finds nothing of object 1


def test_mean_over_objects_then_over_images(tmp_path: Path) -> None:
    write_scene(tmp_path, "a", (64, 64), {1: (0, 0, 32, 32)})
    one = value(measure(tmp_path), "jaccard")
    assert measure(tmp_path).metrics["jaccard"].error is None  # of one image
    write_scene(tmp_path, "b", (64, 64), {1: (0, 0, 32, 32)})
    assert value(measure(tmp_path), "jaccard") == pytest.approx(one)
    write_scene(tmp_path, "c", (64, 64), {1: (0, 0, 32, 32), 2: (0, 32, 8, 40), 3: (0, 48, 8, 56)}, bright=1)
    mixed = measure(tmp_path)
    assert mixed.settings["objects"] == 5
    assert (mixed.metrics["jaccard"].error or 0) > 0
    only_c = mixed.metrics["jaccard"].value * 3 - 2 * one
    assert only_c < one  # its small dark objects count as much as the large bright one
    assert mixed.metrics["jaccard"].n == 3


def test_instances_are_scored_beside_class_regions(tmp_path: Path) -> None:
    write_scene(tmp_path, "a", (64, 64), {1: (0, 16, 32, 48)})  # its instances are two halves
    write_scene(tmp_path, "b", (64, 64), {1: (0, 16, 32, 48)}, instances=False)
    document = measure(tmp_path)
    assert (document.metrics["jaccard"].n, document.metrics["jaccard_instances"].n) == (2, 1)
    assert value(document, "jaccard") == pytest.approx(100 * 10 / 16)
    assert value(document, "jaccard_instances") == pytest.approx(100 * (8 / 10 + 2 / 16) / 2, abs=15)
    assert value(document, "jaccard_instances") < value(document, "jaccard")
    assert any("1 of 2 images have no mask in SegmentationObject" in note for note in document.notes)


def test_void_counts_for_nobody_unless_asked(tmp_path: Path) -> None:
    write_scene(tmp_path, "a", (64, 64), {255: (0, 0, 32, 40), 1: (0, 0, 32, 32)})
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (0, 0, 40, 32))  # left, top, right, bottom
    image.save(tmp_path / "JPEGImages" / "a.png")
    # 20 patches are bright: the object's 16 and 4 of void beside it, some of which the mask takes.
    ignored, counted = (value(measure(tmp_path, void=void), "jaccard") for void in ("ignore", "background"))
    assert ignored > counted


def test_shapes_and_batches_do_not_matter(tmp_path: Path) -> None:
    for number, size in enumerate([(64, 64), (64, 96), (96, 64), (64, 96), (70, 64), (64, 64)]):
        write_scene(tmp_path, f"s{number}", size, {1: (0, 0, 8 * (number + 1), 32), 2: (56, 40, 64, 64)}, bright=1)
    documents = [measure(tmp_path, batch_size=size) for size in (1, 2, 64)]
    assert documents[0].metrics == documents[1].metrics == documents[2].metrics
    square = measure(tmp_path, resize="square")
    assert square.metrics != documents[0].metrics
    assert documents[0].settings["resize"] == "short-side"


def test_images_without_use_are_counted_and_reported(tmp_path: Path) -> None:
    write_scene(tmp_path, "good", (64, 64), {1: (0, 0, 32, 32)})
    alone = measure(tmp_path)
    write_scene(tmp_path, "empty", (64, 64), {})
    write_scene(tmp_path, "void", (64, 64), {255: (0, 0, 32, 32)})
    write_scene(tmp_path, "tiny", (7, 40), {1: (0, 0, 7, 7)})
    write_scene(tmp_path, "other", (64, 64), {1: (0, 0, 32, 32)})
    Image.new("RGB", (64, 48)).save(tmp_path / "JPEGImages" / "other.png")
    for broken, name in (("JPEGImages", "cut"), ("SegmentationClass", "cutmask")):
        write_scene(tmp_path, name, (64, 64), {1: (0, 0, 32, 32)})
        path = tmp_path / broken / f"{name}.png"
        path.write_bytes(path.read_bytes()[:60])
    document = measure(tmp_path)
    assert document.metrics == alone.metrics
    skipped = [note for note in document.notes if "skipped" in note]
    assert any("4 of 7 images skipped as unreadable or unusable" in note for note in skipped)
    assert any("2 of 7 images skipped as having no object in their mask: empty, void" in note for note in skipped)
    assert "62.50 %" in format_table(document)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_scene(tmp_path, "empty", (64, 64), {})
    with pytest.raises(UserError, match=r"none of its 1 masks can be used \(0 unreadable, 1 without an object"):
        measure(tmp_path)
    with pytest.raises(UserError, match="--image-size 4 is smaller than a patch of 8 pixels"):
        measure(tmp_path, image_size=4)


def test_grey_cmyk_and_16_bit_images_are_read(tmp_path: Path) -> None:
    write_scene(tmp_path, "a", (64, 64), {1: (0, 0, 32, 32)})
    expected = measure(tmp_path).metrics
    path = tmp_path / "JPEGImages" / "a.png"
    image = Image.open(path).convert("L")
    path.unlink()
    wide = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    for converted, suffix in ((image, ".png"), (image.convert("CMYK"), ".tif"), (wide, ".png")):
        target = path.with_suffix(suffix)
        converted.save(target)
        assert measure(tmp_path).metrics == expected, converted.mode
        target.unlink()


def test_a_list_decides_which_images_count(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("a", "b", "c"):
        write_scene(root, name, (64, 64), {1: (0, 0, 32, 32)})
    write_list(root, "val", ["c", "a"])
    for folder in (tmp_path, tmp_path / "VOCdevkit", root):
        scenes = find_scenes(str(folder), "val")
        assert [scene.name for scene in scenes.scenes] == ["c", "a"]
        assert scenes.root == root
    write_list(root, "all", ["a", "b", "c"])
    assert find_scenes(str(root), "all").digest != scenes.digest
    with pytest.raises(UserError, match="did you mean 'val'"):
        find_scenes(str(root), "vall")
    write_list(root, "val", ["a", "gone", "lost"])
    with pytest.raises(UserError, match=r"2 of 3 images lack their file .*the first: 'gone'"):
        find_scenes(str(root), "val")


def test_without_lists_all_masks_count(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_scene(tmp_path, name, (64, 64), {1: (0, 0, 32, 32)})
    scenes = find_scenes(str(tmp_path), "val")
    assert [scene.name for scene in scenes.scenes] == ["a", "b"]
    assert scenes.split is None
    assert "all 2 masks" in scenes.notes[0]


def test_masks_of_colours_and_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected JPEGImages/ and SegmentationClass/"):
        find_scenes(str(tmp_path), "val")
    write_scene(tmp_path, "a", (64, 64), {1: (0, 0, 32, 32)})
    Image.new("RGB", (64, 64), (128, 0, 0)).save(tmp_path / "SegmentationClass" / "a.png")
    with pytest.raises(UserError, match="a mask of colours"):
        measure(tmp_path)
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(UserError, match="no masks"):
        find_scenes(str(tmp_path), "val")
