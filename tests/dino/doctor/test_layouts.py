"""The doctor's look at the files of each layout: whole ones, and every kind of damage by name."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dino.data.generated.generate import generate
from dino.doctor.layouts import look_at
from dino.registry import DatasetSpec

SETTINGS: dict[str, dict[str, Any]] = {
    "voc": {"classes": 3, "train": 6, "val": 4, "test": 5, "height": 32, "width": 48},
    "davis": {"train": 1, "val": 2, "frames": 3, "height": 40, "width": 56, "max_objects": 2},
    "landmarks": {"landmarks": 2, "queries": 1, "easy": 2, "hard": 2, "junk": 1, "distractors": 2, "size": 32},
    "copydays": {"originals": 3, "strong": 2, "distractors": 4, "whitening": 5, "size": 32},
}
SPLITS = {"voc": {"train": "trainval", "test": "test"}, "davis": {"train": "train", "test": "val"}}


def spec(generator: str) -> DatasetSpec:
    return DatasetSpec(
        name="g",
        kind="generated",
        title="g",
        generator=generator,  # type: ignore[arg-type]
        settings=SETTINGS[generator],  # type: ignore[arg-type]
        splits=SPLITS.get(generator, {}),
    )


def look(generator: str, root: Path) -> tuple[str, list[str]]:
    manifest = json.loads((root / "manifest.json").read_text())
    seen = look_at(spec(generator), root, expected={key: n for key, n in manifest.items() if isinstance(n, int)})
    return "; ".join(seen.facts), seen.problems


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    def make(generator: str) -> Path:
        generate(spec(generator), tmp_path / generator)
        return tmp_path / generator

    return make


@pytest.mark.parametrize(
    ("generator", "facts"),
    [
        ("voc", "train: 6 images with masks; val: 4 images with masks"),
        ("davis", "train: 1 sequences; test: 2 sequences"),
        ("landmarks", "gnd_roxford5k.pkl; database: 12 images; queries: 2 images"),
        ("copydays", "original: 3 images; strong: 6 images; distractors: 4 images; whitening: 5 images"),
    ],
)
def test_a_whole_set_is_counted(made: Callable[[str], Path], generator: str, facts: str):
    assert look(generator, made(generator)) == (facts, [])


@pytest.mark.parametrize(
    ("generator", "lists", "part"),
    [("davis", "ImageSets/2017", "test: 3 sequences"), ("voc", "ImageSets/Segmentation", "test: 10 images with masks")],
)
def test_without_lists_all_is_counted_as_the_evaluations_take_all(
    made: Callable[[str], Path], generator: str, lists: str, part: str
):
    root = made(generator)
    shutil.rmtree(root / lists)
    seen = look_at(spec(generator), root, expected={"test": 30})
    assert part in seen.facts
    assert any(f"no lists in {root / lists}: all" in fact for fact in seen.facts)
    assert [problem for problem in seen.problems if "expected 30" not in problem] == []


def test_masks_without_instances_are_a_fact_not_a_problem(made: Callable[[str], Path]):
    root = made("voc")
    shutil.rmtree(root / "SegmentationObject")
    facts, problems = look("voc", root)
    assert "no SegmentationObject: instances are not scored" in facts
    assert problems == []


def remove(pattern: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (path, *_) = sorted(root.glob(pattern))
        path.unlink()

    return spoil


def damage(pattern: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (path, *_) = sorted(root.glob(pattern))
        path.write_bytes(path.read_bytes()[:40])

    return spoil


def shorten_truth(root: Path) -> None:
    truth = pickle.loads((root / "gnd_roxford5k.pkl").read_bytes())
    truth["gnd"].pop()
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))


@pytest.mark.parametrize(
    ("generator", "spoil", "problem"),
    [
        ("voc", remove("SegmentationClass/*.png"), "train: 1 files lack in SegmentationClass (the first: 000001)"),
        (
            "voc",
            damage("SegmentationObject/*.png"),
            "train: 1 images cannot be decoded (the first: SegmentationObject/",
        ),
        ("voc", remove("ImageSets/Segmentation/val.txt"), "no list "),
        ("voc", lambda root: (root / "SegmentationClass").rename(root / "Masks"), "no SegmentationClass in "),
        ("davis", remove("ImageSets/2017/train.txt"), "train: no list "),
        ("davis", remove("Annotations/480p/val-01/*.png"), "test: 1 sequences have not one mask a frame (the first: v"),
        ("davis", damage("JPEGImages/480p/val-00/*.jpg"), "test: 1 images cannot be decoded (the first: val-00/00000"),
        (
            "davis",
            lambda root: (root / "JPEGImages" / "480p" / "val-01").rename(root / "elsewhere"),
            "test: 1 sequences are not there (the first: val-01)",
        ),
        ("landmarks", remove("gnd_*.pkl"), "no ground truth gnd_*.pkl in "),
        ("landmarks", damage("gnd_*.pkl"), "is no readable pickle"),
        ("landmarks", shorten_truth, "gnd_roxford5k.pkl: 1 entries for 2 queries"),
        ("landmarks", remove("jpg/elsewhere_*.jpg"), "database: 1 images are not in jpg/ (the first: elsewhere_000000"),
        ("copydays", remove("original/*.jpg"), "original: 2 images, expected 3"),
        ("copydays", remove("original/*.jpg"), "strong: 1 identities have no original (the first: 2000)"),
        ("copydays", damage("whitening/*.jpg"), "whitening: 1 images cannot be decoded (the first: whitening/w00000"),
        (
            "copydays",
            lambda root: (root / "strong").rename(root / "weak"),
            "no images in ",
        ),
    ],
)
def test_damage_is_named(made: Callable[[str], Path], generator: str, spoil: Callable[[Path], Any], problem: str):
    root = made(generator)
    spoil(root)
    problems = look(generator, root)[1]
    assert any(problem in found for found in problems), problems


def test_a_download_is_counted_against_what_is_published_and_its_hashes_compared(tmp_path: Path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    part = {b"data": bytes(2 * 3072), b"labels": [0, 1]}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({**part, b"data": [list(part[b"data"])]}, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b", b"c"]}, protocol=2))
    registered = DatasetSpec(name="c", kind="torchvision", title="c", classes=2)
    seen = look_at(registered, tmp_path, expected={"train": 50000})
    assert seen.facts == ["CIFAR-10's own files", "train: 10 images of 3 classes", "test: 2 images of 3 classes"]
    assert "train: 10 images, expected 50000" in seen.problems
    assert "train: 3 classes, expected 2" in seen.problems
    assert "test: 1 classes without images (the first: c)" in seen.problems
    assert sum("has another MD5 than is published" in problem for problem in seen.problems) == 7


@pytest.mark.reference
def test_the_published_ground_truth_has_the_published_counts(reference_data: Path):
    for name, database in (("roxford5k", 4993), ("rparis6k", 6322)):
        registered = DatasetSpec(name=name, kind="revisited", title=name, splits={})
        seen = look_at(registered, reference_data / "revisitop", expected={"database": database, "queries": 70})
        assert [problem.split(" (")[0] for problem in seen.problems] == [
            f"database: {database} images are not in jpg/",
            "queries: 70 images are not in jpg/",
        ]


@pytest.mark.reference
def test_real_images_are_counted_and_decoded(reference_data: Path):
    registered = DatasetSpec(name="c", kind="imagefolder", title="c", classes=10)
    seen = look_at(registered, reference_data / "cifar10-small", expected={"train": 5000, "test": 1000})
    assert not seen.problems


def test_it_imports_no_torch():
    code = "import sys, dino.doctor.layouts, dino.data.plain_pickle; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
