from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dino.config import build_config, dump_config, fingerprint, run_id
from dino.data import EvalImages, resolve_dataset
from dino.errors import UserError
from dino.evaluation import checkpoints as module
from dino.evaluation.features.extraction import FeatureSettings, default_resize, extract_features, write_split_features
from dino.evaluation.features.files import read_features
from dino.models import load_backbone

SHAPE: dict[str, Any] = {"arch": "vit_nano", "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ImageFolder of three classes: 7 training and 4 test images a class, 16 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("test", 4)):
        for name in ("ant", "bee", "cat"):
            target = tmp_path / "tiny" / split / name
            target.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(target / f"{number}.png"), rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return tmp_path / "tiny"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = build_config({**SHAPE, "global_crop_size": 16, "local_crop_size": 8, "epochs": 0, "warmup_epochs": 0})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    return path


def settings(folder: Path, config_file: Path, **changes: Any) -> FeatureSettings:
    values: dict[str, Any] = {"checkpoint": "random", "data": str(folder), "config": str(config_file), "workers": 0}
    return FeatureSettings(**{**values, "device": torch.device("cpu"), **changes})


def extract(folder: Path, config_file: Path, output: Path, **changes: Any) -> Any:
    write_split_features(settings(folder, config_file, **changes), [("test", output)])
    return read_features(output)


def test_features_are_the_backbones_outputs_in_the_order_of_the_data(folder: Path) -> None:
    config = build_config({**SHAPE, "global_crop_size": 16, "local_crop_size": 8})
    backbone, _ = load_backbone("random", config=config)
    images = EvalImages(resolve_dataset(folder, split="test"), resize=16, crop=16, batch_size=5)
    extracted = extract_features(backbone, images)
    with torch.no_grad():
        expected = torch.cat([backbone(batch.images) for batch in images])
    np.testing.assert_allclose(extracted.features, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert extracted.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert extracted.paths[:2] == ["ant/0.png", "ant/1.png"]


def test_batch_size_does_not_change_the_features(folder: Path, config_file: Path, tmp_path: Path) -> None:
    one = extract(folder, config_file, tmp_path / "a.npz", batch_size=128)
    other = extract(folder, config_file, tmp_path / "b.npz", batch_size=5)
    np.testing.assert_allclose(one.features, other.features, rtol=1e-4, atol=1e-5)
    again = extract(folder, config_file, tmp_path / "c.npz", batch_size=128)
    np.testing.assert_array_equal(one.features, again.features)


def test_meta_says_what_made_the_file(folder: Path, config_file: Path, tmp_path: Path) -> None:
    meta = extract(folder, config_file, tmp_path / "f.npz").meta
    config = module.load_config(config_file)
    assert (meta.run_id, meta.fingerprint) == (run_id(config), fingerprint(config))  # no epochs: it is that run
    assert (meta.data.name, meta.data.split, meta.data.images) == ("tiny", "test", 12)
    assert meta.data.classes == ["ant", "bee", "cat"]
    assert meta.preprocessing.model_dump() == {"image_size": 16, "resize": 16, "precision": "fp32"}
    assert meta.model["embed_dim"] == 32
    assert meta.checkpoint.path == "random"
    assert meta.seconds > 0
    assert "torch" in meta.versions


def test_random_weights_of_a_trained_configuration_are_not_its_run(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trained.yaml"
    path.write_text(dump_config(build_config({**SHAPE, "global_crop_size": 16, "local_crop_size": 8, "seed": 5})))
    meta = extract(folder, path, tmp_path / "f.npz").meta
    assert (meta.run_id, meta.fingerprint, meta.seed) == (None, None, 5)


def test_seed_makes_other_random_weights(folder: Path, config_file: Path, tmp_path: Path) -> None:
    one = extract(folder, config_file, tmp_path / "a.npz", seed=1)
    two = extract(folder, config_file, tmp_path / "b.npz", seed=2)
    assert (one.meta.seed, two.meta.seed) == (1, 2)
    assert not np.allclose(one.features, two.features)


def test_equal_file_is_kept_and_any_other_is_made_again(
    folder: Path, config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("dino")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    try:
        output = tmp_path / "f.npz"
        extract(folder, config_file, output)
        written = output.stat().st_mtime_ns
        extract(folder, config_file, output, batch_size=3)
        assert output.stat().st_mtime_ns == written
        assert "up to date" in caplog.text
        extract(folder, config_file, output, resize=20)
        assert output.stat().st_mtime_ns != written
        (folder / "test" / "ant" / "0.png").unlink()
        assert len(extract(folder, config_file, output, resize=20).labels) == 11
        output.write_bytes(b"cut short")
        assert len(extract(folder, config_file, output).labels) == 11
    finally:
        logger.removeHandler(caplog.handler)


def test_corrupt_images_are_left_out_and_listed(folder: Path, config_file: Path, tmp_path: Path) -> None:
    (folder / "test" / "bee" / "1.png").write_bytes(b"no image")
    read = extract(folder, config_file, tmp_path / "f.npz")
    assert read.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert len(read.meta.skipped) == 1
    assert "1.png" in read.meta.skipped[0]
    assert read.meta.data.images == 12


def test_all_images_corrupt_is_an_error_without_output(folder: Path, config_file: Path, tmp_path: Path) -> None:
    for path in (folder / "test").glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no readable image|can be read"):
        extract(folder, config_file, tmp_path / "f.npz")
    assert not (tmp_path / "f.npz").exists()


def test_features_that_are_not_finite_are_refused(
    folder: Path, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*args: Any, **kwargs: Any) -> Any:
        backbone, info = load_backbone(*args, **kwargs)
        next(iter(backbone.parameters())).data.fill_(float("nan"))
        return backbone, info

    monkeypatch.setattr(module, "load_backbone", diverged)
    with pytest.raises(UserError, match="12 of 12 images are not finite .* diverged"):
        extract(folder, config_file, tmp_path / "f.npz")
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16, "resize": 8}, "--resize 8 is smaller than the crop of 16"),
        ({"image_size": 2}, "--image-size 2 is smaller than a patch of 4"),
        ({"config": None}, "random weights need an architecture"),
        ({"checkpoint": "absent.pth"}, "absent.pth"),
        ({"data": "absent"}, "'absent' is neither"),
    ],
)
def test_wrong_settings_are_named(
    folder: Path, config_file: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        extract(folder, config_file, tmp_path / "f.npz", **changes)


def test_folder_without_the_splits_is_refused_for_two(folder: Path, config_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the same images"):
        write_split_features(
            settings(folder / "train", config_file), [("train", tmp_path / "a.npz"), ("test", tmp_path / "b.npz")]
        )


def test_default_resize_is_the_papers_at_its_scale() -> None:
    assert [default_resize(size) for size in (224, 448, 32, 96)] == [256, 512, 32, 96]


def test_bf16_features_are_stored_in_float32(folder: Path, config_file: Path, tmp_path: Path) -> None:
    exact = extract(folder, config_file, tmp_path / "a.npz")
    rounded = extract(folder, config_file, tmp_path / "b.npz", precision="bf16")
    assert rounded.features.dtype == np.float32
    assert 0 < np.abs(exact.features - rounded.features).max() < 0.1
