"""Generated sets in the real formats: VOCdevkit, DAVIS 2017, Revisited Oxford, Copydays, and the transfer textures."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dino.data.generated.copies import GEOMETRY, PIXELS, draw_picture
from dino.data.generated.drawing import SHAPES, draw_shape, draw_sprite, paste, placement
from dino.data.generated.generate import generate
from dino.data.generated.landmarks import GRADES, draw_wall, easy_view, hard_view, junk_view, photograph, query_view
from dino.data.generated.scenes import VOID, draw_scene
from dino.data.generated.textures import TEXTURES
from dino.data.generated.transfer_textures import TRANSFER_TEXTURES
from dino.data.generated.videos import draw_video
from dino.data.generated.world import FAMILIES, draw_images
from dino.data.generated.writing import palette
from dino.registry import DatasetSpec, dataset_version

NAMES = list(TEXTURES)

SETTINGS: dict[str, dict[str, Any]] = {
    "world": {"textures": "transfer", "classes": 3, "image_size": 16, "train_per_class": 2, "test_per_class": 2},
    "voc": {"classes": 3, "train": 6, "val": 4, "test": 5, "height": 32, "width": 48},
    "davis": {"train": 1, "val": 3, "frames": 4, "height": 40, "width": 56, "max_objects": 2},
    "landmarks": {"landmarks": 3, "queries": 2, "easy": 3, "hard": 4, "junk": 2, "distractors": 5, "size": 32},
    "copydays": {"originals": 3, "strong": 2, "distractors": 4, "whitening": 5, "size": 32},
}


def spec(generator: str, **settings: Any) -> DatasetSpec:
    values = {**SETTINGS[generator], **settings}
    return DatasetSpec(name="g", kind="generated", title="g", generator=generator, settings=values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small set of each generator."""
    root = tmp_path_factory.mktemp("made")
    for generator in SETTINGS:
        generate(spec(generator), root / generator)
    return {generator: root / generator for generator in SETTINGS}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("generator", SETTINGS)
def test_equal_settings_give_equal_files_and_another_seed_other_ones(
    made: dict[str, Path], tmp_path: Path, generator: str
):
    generate(spec(generator), tmp_path / "again")
    generate(spec(generator, seed=5), tmp_path / "other")
    assert content(tmp_path / "again") == content(made[generator])
    other = content(tmp_path / "other")
    images = [name for name in content(made[generator]) if name.endswith((".jpg", ".png"))]
    assert images
    assert sum(other.get(name) == (made[generator] / name).read_bytes() for name in images) < len(images) / 10


@pytest.mark.parametrize("generator", SETTINGS)
def test_the_manifest_has_digest_settings_and_counts(made: dict[str, Path], generator: str):
    manifest = json.loads((made[generator] / "manifest.json").read_text())
    assert manifest["digest"] == dataset_version(spec(generator))
    assert manifest["settings"] == {**manifest["settings"], **SETTINGS[generator]}
    counts = {name: value for name, value in manifest.items() if isinstance(value, int)}
    assert (
        counts
        == {
            "world": {"train": 6, "test": 6},
            "voc": {"train": 6, "val": 4, "test": 5},
            "davis": {"train": 1, "val": 3, "frames": 4, "objects": 2 + 2 + 1 + 2},
            "landmarks": {"database": 3 * 9 + 5, "queries": 6, "landmarks": 3},
            "copydays": {"original": 3, "strong": 6, "distractors": 4, "whitening": 5},
        }[generator]
    )


@pytest.mark.parametrize("generator", ["voc", "davis", "landmarks", "copydays"])
def test_more_images_leave_the_first_ones_as_they_are(made: dict[str, Path], tmp_path: Path, generator: str):
    more = {
        "voc": {"train": 8},
        "davis": {"val": 4},
        "landmarks": {"distractors": 7},
        "copydays": {"originals": 4},
    }
    generate(spec(generator, **more[generator]), tmp_path / "more")
    first = {
        "voc": "JPEGImages/000001.jpg",
        "davis": "JPEGImages/480p/val-00/00003.jpg",
        "landmarks": "jpg/elsewhere_000004.jpg",
        "copydays": "strong/200101.jpg",
    }[generator]
    assert (tmp_path / "more" / first).read_bytes() == (made[generator] / first).read_bytes()


# --- transfer textures --------------------------------------------------------------------------------------------


def test_transfer_textures_are_none_of_pretrainings_and_use_the_range():
    assert not set(TRANSFER_TEXTURES) & set(TEXTURES)
    for name in TRANSFER_TEXTURES:
        images = draw_images(name, 12, 32, np.random.default_rng(0), family=FAMILIES["transfer"])
        assert 50 < images.mean() < 205
        assert (images.std(axis=(1, 2, 3)) > 8).all()
        assert len({image.tobytes() for image in images}) == 12


def test_the_world_has_not_moved():
    """Its images are what results in docs/expected were measured on."""
    image = draw_images("bricks", 1, 16, np.random.default_rng([0, 0, 14]))[0]
    assert image.sum() == 46769
    assert image[3, 4].tolist() == [85, 21, 145]


# --- VOC ----------------------------------------------------------------------------------------------------------


def read_mask(path: Path) -> np.ndarray:
    image = Image.open(path)
    assert image.mode == "P"
    assert image.getpalette()[: 3 * 256] == palette()
    return np.asarray(image)


def test_vocs_lists_name_images_with_masks(made: dict[str, Path]):
    root = made["voc"]
    lists = {path.stem: path.read_text().split() for path in (root / "ImageSets" / "Segmentation").iterdir()}
    assert sorted(lists) == ["train", "trainval", "val"]
    assert lists["trainval"] == lists["train"] + lists["val"]
    assert not set(lists["train"]) & set(lists["val"])
    for name in lists["trainval"]:
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))
        classes = read_mask(root / "SegmentationClass" / f"{name}.png")
        objects = read_mask(root / "SegmentationObject" / f"{name}.png")
        assert image.shape == (32, 48, 3)
        assert classes.shape == objects.shape == (32, 48)
        np.testing.assert_array_equal(classes == VOID, objects == VOID)
        np.testing.assert_array_equal(classes == 0, objects == 0)
        numbers = sorted(set(np.unique(objects)) - {0, VOID})
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers
        for number in numbers:  # an object has one class
            assert len(np.unique(classes[objects == number])) == 1
    test = (root / "ImageSets" / "Main" / "test.txt").read_text().split()
    assert len(test) == 5
    assert not set(test) & set(lists["trainval"])


def test_vocs_classification_lists_agree_with_masks_and_annotations(made: dict[str, Path]):
    root = made["voc"]
    for label, texture in enumerate(NAMES[:3]):
        lines = (root / "ImageSets" / "Main" / f"{texture}_trainval.txt").read_text().splitlines()
        assert len(lines) == 10
        for line in lines:
            name, presence = line.split()
            seen = (read_mask(root / "SegmentationClass" / f"{name}.png") == label + 1).any()
            assert (int(presence) >= 0) == seen
            objects = ElementTree.parse(root / "Annotations" / f"{name}.xml").findall("object")
            hard = [item.findtext("difficult") for item in objects if item.findtext("name") == texture]
            assert int(presence) == (-1 if not hard else int("0" in hard))


def test_a_border_of_void_lies_between_objects_and_hidden_ones_are_none():
    for seed in range(20):
        scene = draw_scene(NAMES[:5], 64, 96, np.random.default_rng(seed), max_objects=4)
        padded = np.pad(scene.instances, 1, mode="edge")
        for across in (padded[1:-1, 2:], padded[2:, 1:-1]):
            different = (scene.instances != across) & (scene.instances != VOID) & (across != VOID)
            assert not different.any()
        assert len(scene.classes) == len(set(np.unique(scene.instances)) - {0, VOID}) == len(scene.difficult)


# --- DAVIS --------------------------------------------------------------------------------------------------------


def test_davis_sequences_have_a_mask_for_each_frame_and_all_objects_in_the_first(made: dict[str, Path]):
    root = made["davis"]
    val = (root / "ImageSets" / "2017" / "val.txt").read_text().split()
    train = (root / "ImageSets" / "2017" / "train.txt").read_text().split()
    assert (len(train), len(val)) == (1, 3)
    objects = []
    for name in val:
        frames = sorted(path.name for path in (root / "JPEGImages" / "480p" / name).iterdir())
        assert frames == [f"{number:05d}.jpg" for number in range(4)]
        masks = [read_mask(root / "Annotations" / "480p" / name / f"{number:05d}.png") for number in range(4)]
        assert cv2.imread(str(root / "JPEGImages" / "480p" / name / "00000.jpg")).shape == (40, 56, 3)
        found = set(np.unique(masks[0])) - {0}
        assert found == set(range(1, len(found) + 1))
        assert all(set(np.unique(mask)) <= {0, *found} for mask in masks)
        objects.append(len(found))
    assert objects == [2, 1, 2]


def test_objects_move_change_and_cover_one_another():
    areas, moved = [], []
    for seed in range(4):
        _, masks = draw_video(16, 64, 96, np.random.default_rng(seed), objects=3)
        areas.append([[(mask == number).sum() for mask in masks] for number in (1, 2, 3)])
        moved.append((masks[0] != masks[8]).mean())
    spread = np.array(areas).reshape(12, 16)
    assert min(moved) > 0.03
    assert (spread.min(axis=1) < 0.7 * spread.max(axis=1)).mean() > 0.7
    assert (np.diff(spread, axis=1) != 0).mean() > 0.8


def test_neighbouring_frames_differ_little():
    images, masks = draw_video(6, 64, 96, np.random.default_rng(0), objects=2)
    assert all((a != b).mean() < 0.12 for a, b in itertools.pairwise(masks))
    assert len({image.tobytes() for image in images}) == 6


# --- landmarks ----------------------------------------------------------------------------------------------------


def read_truth(root: Path) -> dict[str, Any]:
    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AssertionError(f"the ground truth asks for {module}.{name}")

    return Plain(io.BytesIO((root / "gnd_roxford5k.pkl").read_bytes())).load()


def test_ground_truth_is_plain_and_its_names_are_images(made: dict[str, Path]):
    root = made["landmarks"]
    truth = read_truth(root)
    assert len(truth["imlist"]) == len(set(truth["imlist"])) == 32
    assert len(truth["qimlist"]) == len(truth["gnd"]) == 6
    assert not set(truth["imlist"]) & set(truth["qimlist"])
    assert {path.stem for path in (root / "jpg").iterdir()} == {*truth["imlist"], *truth["qimlist"]}
    for query, entry in zip(truth["qimlist"], truth["gnd"], strict=True):
        height, width = cv2.imread(str(root / "jpg" / f"{query}.jpg")).shape[:2]
        x0, y0, x1, y1 = entry["bbx"]
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        place = query.split("_")[0]
        listed = {grade: {truth["imlist"][index] for index in entry[grade]} for grade in GRADES}
        assert sum(map(len, listed.values())) == len(set().union(*listed.values())) == 9
        assert all(name.startswith(place) for names in listed.values() for name in names)


def test_the_last_landmark_has_no_easy_views_and_the_order_tells_nothing(made: dict[str, Path]):
    truth = read_truth(made["landmarks"])
    assert [len(entry["easy"]) for entry in truth["gnd"]] == [3, 3, 3, 3, 0, 0]
    assert truth["imlist"] != sorted(truth["imlist"])


def test_views_of_a_landmark_are_nearer_to_it_than_another_landmark_and_grades_are_in_order():
    """By the hues of what is not grey, which say something about a wall."""

    def histogram(image: np.ndarray) -> np.ndarray:
        hue, saturation, _ = np.moveaxis(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), 2, 0)
        counts = np.bincount(hue[saturation > 100], minlength=180).reshape(12, 15).sum(axis=1) + 1.0
        return counts / np.linalg.norm(counts)

    similar: dict[str, list[float]] = {"easy": [], "hard": [], "junk": [], "other": []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        wall, another = draw_wall(96, rng), draw_wall(96, rng)
        query = histogram(photograph(wall, query_view(rng), 48, 64, rng)[0])
        for grade, view in (("easy", easy_view), ("hard", hard_view), ("junk", junk_view)):
            similar[grade] += [query @ histogram(photograph(wall, view(rng), 48, 64, rng)[0]) for _ in range(4)]
        similar["other"].append(query @ histogram(photograph(another, easy_view(rng), 48, 64, rng)[0]))
    means = {grade: np.mean(values) for grade, values in similar.items()}
    assert means["easy"] > means["hard"] > means["junk"]
    assert means["easy"] > means["other"]


# --- Copydays -----------------------------------------------------------------------------------------------------


def test_every_copy_has_its_original(made: dict[str, Path]):
    root = made["copydays"]
    names = {part.name: sorted(path.name for path in part.iterdir()) for part in root.iterdir() if part.is_dir()}
    assert names["original"] == ["200000.jpg", "200100.jpg", "200200.jpg"]
    assert names["strong"] == ["200001.jpg", "200002.jpg", "200101.jpg", "200102.jpg", "200201.jpg", "200202.jpg"]
    assert (len(names["distractors"]), len(names["whitening"])) == (4, 5)


@pytest.mark.parametrize("attack", [*GEOMETRY, *PIXELS])
def test_every_attack_changes_the_picture_and_keeps_its_size(attack: Any):
    rng = np.random.default_rng(0)
    picture = draw_picture(48, rng)
    before = picture.copy()
    result = attack(picture, rng)
    np.testing.assert_array_equal(picture, before)
    assert result.shape == picture.shape
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - picture).mean() > 3


# --- drawing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_a_good_part_of_their_square(shape: str):
    for seed in range(5):
        cover = draw_shape(shape, 32, np.random.default_rng(seed))
        assert cover.dtype == np.float32
        assert 0.2 < cover.mean() < 0.9
        assert cover.min() == 0
        assert cover.max() == 1


def test_a_sprite_is_painted_where_it_says_it_is_seen():
    rng = np.random.default_rng(0)
    canvas = np.full((40, 60, 3), 7, np.uint8)
    seen = paste(canvas, draw_sprite("grid", 21, rng, shape="ellipse"), placement(21, center=(30, 18)))
    rows, columns = np.nonzero(seen)
    assert rows.mean() == pytest.approx(18, abs=0.3)
    assert columns.mean() == pytest.approx(30, abs=0.3)
    assert (canvas[~cv2.dilate(seen.astype(np.uint8), np.ones((3, 3))).astype(bool)] == 7).all()
    assert (canvas[seen] != 7).any(axis=1).mean() > 0.9


def test_a_sprite_outside_the_canvas_is_not_seen():
    canvas = np.zeros((20, 20, 3), np.uint8)
    assert not paste(canvas, draw_sprite("grid", 9, np.random.default_rng(0)), placement(9, center=(99, 99))).any()
    assert not canvas.any()
