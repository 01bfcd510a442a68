from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino.data.decode import CorruptImage
from dino.errors import UserError
from dino.evaluation.features.whole_images import ImageList, Running, extract_list
from dino.evaluation.retrieval.images import SCALES, Shrink, at_scales, pixel_boxes, smallest_side
from dino.models import build_backbone
from tests.golden import make_retrieval

GOLDEN = json.loads(Path(make_retrieval.__file__).with_name("retrieval.json").read_text())
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", make_retrieval.RETRIEVAL)
def test_features_are_the_authors(tmp_path: Path, name: str) -> None:
    """Pillow's shrinking, the scales and the network together, all sizes at once instead of one image at a time."""
    maker = make_retrieval.make_backbone()
    backbone = build_backbone(arch="vit_tiny", patch_size=16, img_size=224).eval()
    maker.fill(backbone, seed=0)
    longest, multiscale = make_retrieval.RETRIEVAL[name]
    scales = SCALES if multiscale else (1.0,)
    paths = [f"{stem}.jpg" for stem in make_retrieval.write_images(tmp_path / "jpg")]
    images = ImageList(what="x", root=tmp_path / "jpg", paths=paths, prepare=Shrink(longest, 16), prepared="")
    features = extract_list(at_scales(backbone, scales), images, Running(device=CPU)).features
    summary = maker.summary(torch.nn.functional.normalize(torch.from_numpy(features), dim=1))
    for kind, numbers in GOLDEN["features"][name].items():
        assert summary[kind] == pytest.approx(numbers, abs=1e-4), kind


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 40), (50, 20)), ((40, 100), (20, 50)), ((50, 50), (50, 50)), ((30, 20), (30, 20))]
)
def test_images_are_shrunk_and_never_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    shrunk = Shrink(50, 16)(picture(*size), 0)
    assert shrunk.shape == (expected[1], expected[0], 3)
    if size == expected:
        np.testing.assert_array_equal(shrunk, picture(*size))


def test_the_box_is_cut_out_before_shrinking() -> None:
    image = picture(100, 40)
    cut = Shrink(50, 4, [(0, 0, 1, 1), (10, 5, 40, 25)])(image, 1)
    np.testing.assert_array_equal(cut, image[5:25, 10:40])


def test_an_image_smaller_than_a_patch_at_the_smallest_scale_is_refused() -> None:
    assert [smallest_side(16, SCALES), smallest_side(16, (1.0,)), smallest_side(None, (1.0,))] == [32, 16, 1]
    Shrink(64, 32)(picture(64, 32), 0)
    with pytest.raises(CorruptImage, match=r"64x31 pixels are too few for the network \(32 a side\)"):
        Shrink(64, 32)(picture(64, 31), 0)


def test_boxes_are_rounded_and_cut_at_the_border(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg")
    Image.new("RGB", (60, 40)).save(tmp_path / "b.jpg")
    boxes, notes = pixel_boxes(tmp_path, ["a.jpg", "b.jpg"], [(10.6, 5.4, 59.6, 39.9), (-3, 2, 70, 41)])
    assert boxes == [(11, 5, 60, 40), (0, 2, 60, 40)]
    assert notes == ["1 of 2 query boxes reach beyond their image and were cut: b.jpg"]


@pytest.mark.parametrize("box", [(60, 0, 90, 40), (0, -9, 60, -1), (5.1, 5, 5.2, 20)])
def test_a_box_without_a_pixel_of_its_image_is_an_error(tmp_path: Path, box: tuple[float, ...]) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: the box .* has no pixel of the image, which is 60x40"):
        pixel_boxes(tmp_path, ["a.jpg"], [box])  # type: ignore[list-item]


def test_boxes_count_the_stored_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for name in ("a.png", "a.jpg"):
        Image.fromarray(picture(60, 40)).save(tmp_path / name, exif=exif)
        boxes, _ = pixel_boxes(tmp_path, [name], [(40, 0, 60, 10)])
        images = ImageList(what="x", root=tmp_path, paths=[name], prepare=Shrink(60, 1, boxes), prepared="")
        read = images.read(0)
        assert read.shape == (10, 20, 3)
        if name == "a.png":
            np.testing.assert_array_equal(read, picture(60, 40)[:10, 40:])


def test_scales_are_averaged_before_any_normalisation() -> None:
    seen: list[tuple[int, ...]] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape[-2:]))
        return images.mean((2, 3)) * len(seen)

    constant = torch.full((2, 3, 33, 20), 5.0)
    averaged = at_scales(network, SCALES)(constant)
    assert seen == [(33, 20), (23, 14), (16, 10)]
    torch.testing.assert_close(averaged, torch.full((2, 3), 5.0 * (1 + 2 + 3) / 3))
