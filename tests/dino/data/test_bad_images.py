"""A bad image of each kind, an empty class and an empty split, all the way from a folder to features and crops.

As documented (docs/data.md): what can be shown is shown as RGB; what is no whole image is left out of an evaluation and
replaced by its neighbour in training, counted and reported once; what makes no sense as a data set is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dino.config import RunConfig
from dino.data.datasets import resolve_dataset
from dino.data.decode import CorruptImage
from dino.data.evaluation import EvalImages
from dino.data.loader import build_pretrain_loader
from dino.errors import UserError

GOOD = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def truncated(path: Path) -> None:
    Image.fromarray(GOOD).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


CORRUPT: dict[str, Callable[[Path], object]] = {
    "empty.jpg": lambda path: path.write_bytes(b""),
    "text.png": lambda path: path.write_text("no image"),
    "truncated.jpg": truncated,
    "truncated.png": truncated,
    "dangling.jpg": lambda path: path.symlink_to("nowhere.jpg"),
}
UNUSUAL: dict[str, Callable[[Path], object]] = {
    "grey.jpg": lambda path: Image.fromarray(GOOD[..., 0]).save(path),
    "cmyk.jpg": lambda path: Image.fromarray(GOOD).convert("CMYK").save(path),
    "sixteen.png": lambda path: cv2.imwrite(str(path), GOOD[..., 0].astype(np.uint16) * 257),
    "transparent.png": lambda path: Image.fromarray(GOOD).convert("RGBA").save(path),
    "tiny.png": lambda path: Image.fromarray(GOOD[:1, :1]).save(path),
    "narrow.png": lambda path: Image.fromarray(GOOD[:1, :]).save(path),
}


def folder_with(root: Path, write: dict[str, Callable[[Path], object]]) -> Path:
    """A split of one class with two good images and the given ones between them."""
    (root / "train" / "a").mkdir(parents=True)
    for name in ("000.png", "zzz.png"):
        Image.fromarray(GOOD).save(root / "train" / "a" / name)
    for name, writer in write.items():
        writer(root / "train" / "a" / name)
    return root


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_image_is_listed_named_and_left_out_of_an_evaluation(tmp_path: Path, name: str):
    # listing_digest asks for sizes: a link to nowhere must not end the listing of a set either.
    images = resolve_dataset(folder_with(tmp_path, {name: CORRUPT[name]}))
    assert images.paths == ["a/000.png", f"a/{name}", "a/zzz.png"]
    with pytest.raises(CorruptImage, match=name):
        images.read(1)
    batches = list(EvalImages(images, resize=16, crop=16, batch_size=8, budget=0))
    assert [path for batch in batches for path in batch.paths] == ["a/000.png", "a/zzz.png"]
    assert len(images.skipped) == 1
    assert name in images.skipped[0]


def test_training_takes_the_neighbour_of_a_corrupt_image_and_reports_each_once(tmp_path: Path):
    root = folder_with(tmp_path, CORRUPT)
    config = RunConfig(
        arch="vit_nano", patch_size=8, embed_dim=16, depth=1, num_heads=1, dataset=str(root), batch_size=7,
        global_crop_size=16, local_crop_size=8, num_local_crops=1,
    )  # fmt: skip
    loader = build_pretrain_loader(config, device="cpu", rank=0, world_size=1, workers=0)
    for _ in range(2):
        (groups,) = list(loader.iterate(0, 0))
        assert [group.shape[0] for group in groups] == [14, 7]
    assert len(loader.dataset.skipped) == len(CORRUPT)


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_image_is_shown_as_rgb(tmp_path: Path, name: str):
    images = resolve_dataset(folder_with(tmp_path, {name: UNUSUAL[name]}))
    index = images.paths.index(f"a/{name}")
    pixels = images.read(index)
    assert pixels.dtype == np.uint8
    assert pixels.shape == {"tiny.png": (1, 1, 3), "narrow.png": (1, 32, 3)}.get(name, (24, 32, 3))
    (batch,) = EvalImages(images, resize=16, crop=16, batch_size=8, budget=0)
    assert batch.images.shape == (3, 3, 16, 16)
    assert bool(batch.images.isfinite().all())
    assert not images.skipped


def test_sixteen_bits_keep_their_tones_and_grey_is_on_all_channels(tmp_path: Path):
    images = resolve_dataset(folder_with(tmp_path, UNUSUAL))
    deep = images.read(images.paths.index("a/sixteen.png"))
    np.testing.assert_array_equal(deep, np.repeat(GOOD[..., :1], 3, axis=2))
    grey = images.read(images.paths.index("a/grey.jpg"))
    assert (grey == grey[..., :1]).all()


def test_a_set_of_nothing_but_corrupt_images_is_refused(tmp_path: Path):
    root = tmp_path / "set"
    (root / "train" / "a").mkdir(parents=True)
    for name, writer in CORRUPT.items():
        writer(root / "train" / "a" / name)
    with pytest.raises(UserError, match="no readable image after .* the first problem"):
        EvalImages(resolve_dataset(root), resize=16, crop=16, batch_size=8)


def test_an_empty_class_and_an_empty_split_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = folder_with(tmp_path / "pets", {})
    (root / "train" / "b").mkdir()
    (root / "test").mkdir()
    (tmp_path / "paths.yaml").write_text("pets: pets\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    for name in (str(root), "pets"):
        with pytest.raises(UserError, match=r"train/b: class without images .*; remove the folder or fill it"):
            resolve_dataset(name, split="train")
        with pytest.raises(UserError, match="test: no class sub-folders; expected test/<class>/<image>"):
            resolve_dataset(name, split="test")
