"""Data sets from names and folders: what is read, and what a person is told when it cannot be."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dino.data.datasets import load_in_memory, resolve_dataset
from dino.data.decode import CorruptImage, decode
from dino.data.evaluation import EvalImages, resize_and_crop
from dino.data.folder import listing_digest
from dino.errors import UserError


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three images each, in the splits train and test."""
    for split in ("train", "test"):
        for number in range(6):
            write_image(tmp_path / "set" / split / "ba"[number % 2] / f"{number}.png", number)
    return tmp_path / "set"


# --- decoding -----------------------------------------------------------------------------------------------------


def photograph(height: int = 37, width: int = 53) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_decoded_to_pillows_values(tmp_path: Path, quality: int, subsampling: int):
    path = tmp_path / "x.jpg"
    Image.fromarray(photograph()).save(path, quality=quality, subsampling=subsampling)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("L", "jpg"),
        ("LA", "png"),
        ("RGBA", "png"),
        ("P", "png"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("P", "bmp"),
    ],
)
def test_every_mode_becomes_rgb_as_pillow_converts_it(tmp_path: Path, mode: str, suffix: str):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(photograph()).convert(mode).save(path)
    result = decode(path)
    assert result.shape == (37, 53, 3)
    np.testing.assert_array_equal(result, np.asarray(Image.open(path).convert("RGB")))


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    cv2.imwrite(str(tmp_path / "x.png"), ramp)
    np.testing.assert_array_equal(decode(tmp_path / "x.png")[..., 1], np.rint(ramp / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(photograph()).save(path, exif=exif)
    assert decode(path).shape == (53, 37, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, damage: str):
    path = tmp_path / f"x.{suffix}"
    write_image(path, size=(64, 64))
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CorruptImage, match=rf"x\.{suffix}"):
        decode(path)


@pytest.mark.reference
def test_real_photographs_are_decoded_to_pillows_values(reference_data: Path):
    for path in sorted((reference_data / "imagenet-samples").glob("*"))[:12]:
        np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_torchvision_reads_it(folder: Path):
    from torchvision.datasets import ImageFolder

    ours, theirs = resolve_dataset(folder, split="train"), ImageFolder(folder / "train")
    assert ours.classes == theirs.classes == ["a", "b"]
    assert [str(ours.root / path) for path in ours.paths] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets


def test_a_split_picks_its_sub_folder_only_where_there_is_one(folder: Path):
    assert resolve_dataset(folder, split="test").root == folder / "test"
    assert resolve_dataset(folder / "test", split="train").root == folder / "test"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train" / "c").mkdir(), r"c: class without images"),
        (
            lambda root: [p.rename(root / "train" / p.name) for p in (root / "train").glob("*/*.png")],
            "class without images",
        ),
        (
            lambda root: (
                [p.rename(p.parents[1] / p.name) for p in (root / "train").glob("*/*.png")]
                + [d.rmdir() for d in (root / "train").iterdir() if d.is_dir()]
            ),
            r"no class sub-folders; expected train/<class>/<image>",
        ),
    ],
)
def test_a_folder_of_another_shape_is_explained(folder: Path, spoil, message: str):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        resolve_dataset(folder, split="train")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match=r"neither a registered data set; did you mean 'imagenet'"):
        resolve_dataset("imagenett")


def test_digest_changes_with_files_names_and_sizes_but_not_with_the_place(folder: Path, tmp_path: Path):
    before = resolve_dataset(folder).digest
    moved = folder.rename(tmp_path / "moved")
    assert resolve_dataset(moved).digest == before
    assert resolve_dataset(moved, split="test").digest == before  # equal content
    write_image(moved / "train" / "a" / "9.png", 9)
    longer = resolve_dataset(moved).digest
    assert longer != before
    (moved / "train" / "a" / "9.png").write_bytes((moved / "train" / "a" / "9.png").read_bytes() + b"\0")
    assert resolve_dataset(moved).digest not in (before, longer)


def test_a_large_sets_digest_is_remembered_until_a_class_folder_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("dino.data.folder.CACHE_FROM_FILES", 1)
    images = resolve_dataset(folder)
    assert len(list((tmp_path / "cache" / "dino").iterdir())) == 1
    monkeypatch.setattr("dino.data.folder._digest", lambda *_: pytest.fail("asked the files again"))
    assert listing_digest(images.root, images.paths) == images.digest
    monkeypatch.undo()
    monkeypatch.setattr("dino.data.folder.CACHE_FROM_FILES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_image(folder / "train" / "a" / "9.png", 9)
    assert resolve_dataset(folder).digest != images.digest


# --- registered sets ----------------------------------------------------------------------------------------------


def test_a_generated_set_that_is_not_made_yet_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="run `dino generate world-smoke`"):
        resolve_dataset("world-smoke")
    (tmp_path / "world-smoke").mkdir()
    (tmp_path / "world-smoke" / "manifest.json").write_text(json.dumps({"digest": "0000000000"}))
    with pytest.raises(UserError, match="generated with other settings"):
        resolve_dataset("world-smoke")


def cifar_folder(root: Path) -> np.ndarray:
    """Torchvision's layout with 4 images a file; returns the training pixels."""
    (root / "cifar-10-batches-py").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        part = {b"data": pixels[4 * number : 4 * number + 4], b"labels": [0, 1, 2, number % 3]}
        (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(part, protocol=2))
    meta = {b"label_names": [b"airplane", b"automobile", b"bird"]}
    (root / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return pixels[:20].reshape(20, 3, 32, 32)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "paths.yaml").write_text("cifar10: c\n")
    (tmp_path / "c").mkdir()
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    return tmp_path / "c"


def test_cifar10_is_read_from_torchvisions_files(cifar: Path):
    pixels = cifar_folder(cifar)
    images = resolve_dataset("cifar10", split="train")
    assert images.classes == ["airplane", "automobile", "bird"]
    assert images.labels.tolist()[:4] == [0, 1, 2, 0]
    loaded = load_in_memory(images)
    assert loaded is not None
    np.testing.assert_array_equal(loaded[0].numpy(), pixels)
    np.testing.assert_array_equal(images.read(3), pixels[3].transpose(1, 2, 0))
    assert len(resolve_dataset("cifar10", split="test")) == 4


def test_cifar10_files_that_ask_for_code_are_refused(cifar: Path):
    cifar_folder(cifar)
    (cifar / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({b"data": Path}))
    with pytest.raises(UserError, match=r"test_batch is damaged \(refused pathlib"):
        resolve_dataset("cifar10", split="test")


def test_cifar10_may_be_an_image_folder(cifar: Path):
    with pytest.raises(UserError, match="holds neither a download in torchvision's layout"):
        resolve_dataset("cifar10")
    write_image(cifar / "train" / "cat" / "0.png", size=(32, 32))
    assert resolve_dataset("cifar10").classes == ["cat"]


# --- images for features ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("workers", [0, 2])
def test_eval_images_are_whole_ordered_and_normalised(folder: Path, budget: int, workers: int):
    images = resolve_dataset(folder)
    batches = list(EvalImages(images, resize=8, crop=8, batch_size=4, workers=workers, budget=budget))
    assert [len(batch.images) for batch in batches] == [4, 2]
    assert [path for batch in batches for path in batch.paths] == images.paths
    assert torch.cat([batch.labels for batch in batches]).tolist() == images.labels.tolist()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.from_numpy(images.read(5).copy()).float() / 255 - mean) / std
    torch.testing.assert_close(batches[1].images[1], expected.permute(2, 0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_eval_images_leave_out_and_report_corrupt_files(folder: Path, budget: int):
    (folder / "train" / "a" / "3.png").write_bytes(b"no image")
    loader = EvalImages(resolve_dataset(folder), resize=8, crop=8, batch_size=4, budget=budget)
    paths = [path for batch in loader for path in batch.paths]
    assert "a/3.png" not in paths
    assert len(paths) == 5
    assert len(loader.skipped) == 1
    assert "3.png" in loader.skipped[0]


def test_images_of_several_sizes_are_not_kept_in_memory(folder: Path):
    write_image(folder / "train" / "b" / "9.png", 9, size=(20, 11))
    images = resolve_dataset(folder)
    assert load_in_memory(images) is None
    batch = next(iter(EvalImages(images, resize=8, crop=8, batch_size=10)))
    assert batch.images.shape == (7, 3, 8, 8)


@pytest.mark.parametrize(("height", "width"), [(37, 53), (60, 41), (16, 90), (32, 32)])
def test_resize_and_centre_crop_are_torchvisions_on_pillow(height: int, width: int):
    from torchvision.transforms import v2

    pixels = photograph(height, width)
    expected = v2.Compose([v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(28)])
    ours = resize_and_crop(torch.from_numpy(pixels).permute(2, 0, 1)[None], 32, 28)[0]
    difference = ours.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected(Image.fromarray(pixels)))
    assert np.abs(difference).max() <= 2
