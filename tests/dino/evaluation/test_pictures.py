from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dino.errors import UserError
from dino.evaluation.attention.choices import Point, parse_heads, parse_points, patch_of
from dino.evaluation.attention.drawing import (
    Tile,
    colour,
    heat_map,
    mark_points,
    mask_picture,
    montage,
    overlay,
    scaled,
    wrapped,
)
from dino.evaluation.pictures import UnusablePicture, prepare, to_tensor


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("keep_aspect", "size"), [(False, (70, 70)), (True, [70])])
@pytest.mark.parametrize("shape", [(50, 90), (91, 40), (70, 70)])
def test_images_reach_the_network_as_in_the_authors_figures(
    shape: tuple[int, int], keep_aspect: bool, size: tuple[int, int] | list[int]
) -> None:
    picture = prepare(noise(*shape), image_size=70, keep_aspect=keep_aspect, patch_size=16)
    theirs = transforms.Compose(
        [
            transforms.Resize(size[0] if keep_aspect else size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(Image.fromarray(noise(*shape)))
    rows, columns = (side - side % 16 for side in theirs.shape[1:])
    assert picture.resized == tuple(theirs.shape[1:])
    assert picture.pixels.shape == (rows, columns, 3)
    ours = to_tensor([picture.pixels], torch.device("cpu"))[0]
    torch.testing.assert_close(ours, theirs[:, :rows, :columns], atol=1e-6, rtol=1e-6)


def test_an_image_below_one_patch_or_far_too_long_is_refused() -> None:
    with pytest.raises(UnusablePicture, match=r"40x15 pixels, smaller than one patch \(16 pixels\)"):
        prepare(noise(15, 40), image_size=64, keep_aspect=False, patch_size=16)
    with pytest.raises(UnusablePicture, match="too many tokens"):
        prepare(noise(20, 200), image_size=64, keep_aspect=True, patch_size=16)
    assert prepare(noise(20, 200), image_size=64, keep_aspect=False, patch_size=16).pixels.shape == (64, 64, 3)


def test_a_reference_point_belongs_to_the_patch_under_it() -> None:
    # 100 x 200 pixels become 70 x 70, of which 64 x 64 are shown: 4 x 4 patches.
    picture = prepare(noise(100, 200), image_size=70, keep_aspect=False, patch_size=16)
    places = {"0,0": 0, "50,0": 1, "0,50": 8, "100,50": 10, "199,99": 15, "50%,50%": 10, "99.9%,0%": 3}
    for text, patch in places.items():
        (point,) = parse_points([text])
        assert patch_of(point.place(picture.original), picture, 16) == patch, text
    for text in ("200,10", "10,100", "-1,5", "100%,0%"):
        (point,) = parse_points([text])
        with pytest.raises(UnusablePicture, match="outside its 200 x 100 pixels"):
            point.place(picture.original)


@pytest.mark.parametrize("text", ["5", "1,2,3", "a,b", "10%,5", ""])
def test_a_point_written_wrong_is_a_users_mistake(text: str) -> None:
    with pytest.raises(UserError, match="write x,y"):
        parse_points([text])


def test_points_and_heads_as_written() -> None:
    assert parse_points(["1.5, 2", "50%,25%"]) == (Point(1.5, 2.0, False), Point(0.5, 0.25, True))
    assert [str(point) for point in parse_points(["1.5,2", "50%,25%"])] == ["1.5,2", "50%,25%"]
    assert (parse_heads("all"), parse_heads("0,3,0")) == ("all", (0, 3))
    with pytest.raises(UserError, match="--heads first"):
        parse_heads("first")


def test_a_heat_map_uses_the_whole_colour_table() -> None:
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    values = np.linspace(0.001, 0.003, 12, dtype=np.float32).reshape(3, 4)
    colours = heat_map(values, table)[..., 0]
    assert (colours.min(), colours.max()) == (0, 255)
    assert (np.diff(colours.ravel().astype(int)) > 0).all()
    assert not scaled(np.full((2, 2), 0.5, np.float32)).any()


def test_an_overlay_leaves_weak_attention_untouched() -> None:
    image = noise(4, 4)
    values = np.zeros((4, 4), np.float32)
    values[0, 0], values[1, 1], values[2, 2] = 1.0, 0.5, 0.19
    drawn = overlay(image, [(values, (255, 0, 0))], strength=0.5)
    changed = (drawn != image).any(axis=2)
    assert changed[0, 0]
    assert changed[1, 1]
    assert changed.sum() == 2
    weight = 0.5 * 0.5**0.5
    assert drawn[1, 1] == pytest.approx(image[1, 1] * (1 - weight) + weight * np.array([255, 0, 0]), abs=0.51)


def test_contours_follow_the_mask_up_to_the_border() -> None:
    image, mask = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30), dtype=bool)
    mask[:10, 5:15] = True
    plain = mask_picture(image, mask, (0, 255, 0), contours=False)
    lined = mask_picture(image, mask, (0, 255, 0), contours=True)
    assert (plain[mask] == plain[0, 5]).all()
    assert (plain[~mask] == 60).all()
    line = (lined == (0, 255, 0)).all(axis=2)
    border = mask.copy()
    border[1:9, 6:14] = False
    assert np.array_equal(line, border)


def test_dots_stand_on_their_points_in_images_of_any_size() -> None:
    for side in (30, 480):
        image = np.full((side, 2 * side, 3), 255, np.uint8)
        marked = mark_points(image, [(0.5 * side, 0.25 * side), (1.5 * side, 0.5 * side)])
        times = marked.shape[0] // side
        assert min(marked.shape[:2]) >= 360
        inside = round(0.02 * side * times)  # beside the number
        for number, (x, y) in enumerate([(0.5, 0.25), (1.5, 0.5)]):
            ring = marked[round(y * side * times) + inside, round(x * side * times)]
            assert tuple(ring) == colour(number), (side, number)


def test_a_montage_shows_every_tile_at_its_place() -> None:
    tiles = [Tile(np.full((8, 16, 3), 40 * number, np.uint8), str(number)) for number in range(5)]
    rows = wrapped(tiles, columns=3)
    assert [len(row) for row in rows] == [3, 2]
    sheet = montage(rows, height=40, gap=4)
    step = sheet.shape[0] // 2
    for number in range(5):
        row, column = divmod(number, 3)
        assert (sheet[4 + row * step + 20, 4 + column * 84 + 40] == 40 * number).all()
