from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino.errors import UserError
from dino.evaluation.features.files import (
    FeatureData,
    FeatureMeta,
    Preprocessing,
    default_name,
    read_features,
    read_meta,
    write_features,
)


def meta(**changes: Any) -> FeatureMeta:
    values: dict[str, Any] = {
        "run_id": "run",
        "fingerprint": "0123456789",
        "seed": 3,
        "code_version": 1,
        "data": FeatureData(name="world", version="v1", digest="abc", split="test", classes=["a", "b"], images=4),
        "preprocessing": Preprocessing(image_size=32, resize=32, precision="fp32"),
    }
    return FeatureMeta(**{**values, **changes})


def arrays(count: int = 4, width: int = 3) -> dict[str, Any]:
    features = np.arange(count * width, dtype=np.float32).reshape(count, width)
    return {"features": features, "labels": np.arange(count) % 2}


def test_written_file_reads_back_and_is_plain_numpy(tmp_path: Path) -> None:
    path = tmp_path / "features-world-test.npz"
    write_features(path, **arrays(), paths=["a/0.png", "b/é.png", "a/1.png", "b/1.png"], meta=meta())
    read = read_features(path)
    np.testing.assert_array_equal(read.features, arrays()["features"])
    assert (read.features.dtype, read.labels.dtype) == (np.float32, np.int64)
    assert read.meta == meta() == read_meta(path)
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["features", "labels", "meta", "paths"]
        assert archive["paths"][1] == "b/é.png"
    assert all(entry.compress_type == zipfile.ZIP_STORED for entry in zipfile.ZipFile(path).infolist())
    assert list(tmp_path.iterdir()) == [path]


def test_file_with_features_and_labels_only_has_no_identity(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", features=arrays()["features"].astype(np.float64), labels=np.int32([0, 1, 0, 1]))
    read = read_features(tmp_path / "f.npz")
    assert read.meta == FeatureMeta()
    assert (read.features.dtype, read.labels.dtype) == (np.float32, np.int64)


def test_several_labels_an_image_and_paths_read_back(tmp_path: Path) -> None:
    table = np.array([[1, 0, -1], [0, 1, 1], [0, 0, 0], [1, 1, 0]], np.int8)
    paths = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    write_features(tmp_path / "f.npz", features=arrays()["features"], labels=table, paths=paths, meta=meta())
    read = read_features(tmp_path / "f.npz", with_paths=True)
    assert (read.labels.dtype, read.multi_label) == (np.int8, True)
    np.testing.assert_array_equal(read.labels, table)
    assert read.paths is not None
    chosen = read.select(np.array([3, 1]))
    assert chosen.paths is not None
    assert (chosen.paths.tolist(), chosen.labels.tolist()) == (["d.jpg", "b.jpg"], [[1, 1, 0], [0, 1, 1]])
    assert read_features(tmp_path / "f.npz").paths is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full((4, 2), 2, np.int8)}, "may hold 1"),
        ({"labels": np.zeros((4, 0), np.int8)}, "holds no features"),
        ({"features": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.int64)}, "holds no features"),
        ({"labels": np.zeros(3, np.int64)}, r"shape \(4, 3\) and labels of shape \(3,\)"),
        ({"labels": np.zeros(4)}, "labels of type float64"),
        ({"labels": np.int64([0, -1, 0, 0])}, "negative label -1"),
        ({"features": np.full((4, 3), np.nan, np.float32)}, "4 of 4 features are not finite"),
        ({"features": np.zeros((4, 3), np.int64)}, "features of type int64"),
        ({"labels": np.array([None] * 4, dtype=object)}, "'labels' cannot be read"),
        ({"meta": np.asarray("{")}, "'meta' is broken"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "f.npz", **{**arrays(), **change})
    with pytest.raises(UserError, match=f"f.npz: .*{message}"):
        read_features(tmp_path / "f.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not a zip")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name, message in {
        "text.npz": "not a feature file",
        "array.npy": "a single array",
        "other.npz": r"no array 'features' in it \(found: x\)",
        "absent.npz": "no such feature file",
    }.items():
        with pytest.raises(UserError, match=message):
            read_features(tmp_path / name)


def test_truncated_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    write_features(path, **arrays(2000, 50), paths=["x"] * 2000, meta=meta())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a feature file"):
        read_features(path)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"fingerprint": "other"},
        {"code_version": 2},
        {"preprocessing": Preprocessing(image_size=32, resize=37, precision="fp32")},
        {"data": FeatureData(name="world", version="v1", digest="abd", split="test", classes=["a", "b"], images=4)},
        {"data": FeatureData(name="world", version="v1", digest="abc", split="test", classes=["a", "b"], images=3)},
    ],
)
def test_what_decides_the_features_is_compared(change: dict[str, Any]) -> None:
    assert meta(**change).made_from() != meta().made_from()
    assert meta(seconds=3.0, device="cuda", versions={"torch": "9"}).made_from() == meta().made_from()


def test_default_name_of_a_folder_is_its_last_part() -> None:
    assert default_name("run", "/data/my set", "test") == Path("run/features-my set-test.npz")
