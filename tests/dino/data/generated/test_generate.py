"""The generated world and `dino generate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dino.cli import main
from dino.data.datasets import load_in_memory, resolve_dataset
from dino.data.decode import decode
from dino.data.generated.generate import generate
from dino.data.generated.textures import TEXTURES
from dino.data.generated.world import draw_images, write_world
from dino.errors import UserError
from dino.registry import DatasetSpec, dataset_version, find_spec


def spec(**settings: int) -> DatasetSpec:
    values = {"classes": 3, "image_size": 16, "train_per_class": 4, "test_per_class": 2, **settings}
    return DatasetSpec(name="w", kind="generated", title="w", generator="world", settings=values)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_an_image_folder_with_a_manifest(tmp_path: Path):
    assert generate(spec(), tmp_path / "w")
    manifest = json.loads((tmp_path / "w" / "manifest.json").read_text())
    assert manifest == {
        "name": "w",
        "digest": dataset_version(spec()),
        "classes": list(TEXTURES)[:3],
        "train": 12,
        "test": 6,
        "settings": {"classes": 3, "image_size": 16, "train_per_class": 4, "test_per_class": 2, "seed": 0},
    }
    train = resolve_dataset(tmp_path / "w", split="train")
    assert sorted(train.classes) == sorted(manifest["classes"])
    assert np.bincount(train.labels).tolist() == [4, 4, 4]
    loaded = load_in_memory(train)
    assert loaded is not None
    assert loaded[0].shape == (12, 3, 16, 16)


def test_files_hold_the_drawn_pixels_without_loss(tmp_path: Path):
    generate(spec(), tmp_path / "w")
    name = list(TEXTURES)[1]
    expected = draw_images(name, 4, 16, np.random.default_rng([0, 0, 1]))
    np.testing.assert_array_equal(decode(tmp_path / "w" / "train" / name / "00002.png"), expected[2])


def test_equal_settings_give_equal_files_and_another_seed_others(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(spec(seed=seed), tmp_path / name)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_no_two_images_are_equal_and_every_texture_uses_the_range(tmp_path: Path):
    for name in TEXTURES:
        images = draw_images(name, 30, 32, np.random.default_rng(0))
        assert images.dtype == np.uint8
        assert len({image.tobytes() for image in images}) == 30
        assert 60 < images.mean() < 195
        assert (images.std(axis=(1, 2, 3)) > 8).all()


def test_colour_tells_the_hue_of_a_class_and_not_the_class():
    """Colour must help DINO to take off (five groups: 25 % at best) without giving the classes away."""
    means = {
        split: np.stack(
            [
                draw_images(name, 60, 16, np.random.default_rng([split, i])).mean((1, 2))
                for i, name in enumerate(TEXTURES)
            ]
        )
        for split in (0, 1)
    }
    shares = {split: value / value.sum(-1, keepdims=True) for split, value in means.items()}
    centres = shares[0].mean(1)
    nearest = ((shares[1][:, :, None] - centres) ** 2).sum(-1).argmin(-1)
    truth = np.arange(len(TEXTURES))[:, None]
    assert (nearest == truth).mean() < 0.35
    assert (nearest % 5 == truth % 5).mean() > 0.85


def test_an_up_to_date_set_is_left_alone_and_an_outdated_one_replaced(tmp_path: Path):
    generate(spec(), tmp_path / "w")
    (tmp_path / "w" / "train" / "mark").touch()
    assert not generate(spec(), tmp_path / "w")
    assert (tmp_path / "w" / "train" / "mark").exists()
    assert generate(spec(), tmp_path / "w", force=True)
    assert not (tmp_path / "w" / "train" / "mark").exists()
    assert generate(spec(train_per_class=5), tmp_path / "w")
    assert len(resolve_dataset(tmp_path / "w")) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_set_whose_manifest_is_gone_is_made_again(tmp_path: Path):
    """Snakemake deletes a job's declared output, the manifest, before it runs the job again."""
    generate(spec(), tmp_path / "w")
    (tmp_path / "w" / "manifest.json").unlink()
    assert generate(spec(), tmp_path / "w")
    assert (tmp_path / "w" / "manifest.json").is_file()


def test_a_folder_with_something_else_is_never_touched(tmp_path: Path):
    (tmp_path / "w").mkdir()
    assert generate(spec(), tmp_path / "w")  # empty: Snakemake makes the folder of an output
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(UserError, match="something other than a generated set"):
        generate(spec(), tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_failure_leaves_the_earlier_set_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    generate(spec(), tmp_path / "w")
    before = content(tmp_path / "w")

    def fail(what: DatasetSpec, folder: Path) -> None:
        write_world(what, folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dino.data.generated.generate.write_world", fail)
    with pytest.raises(UserError, match="no space left"):
        generate(spec(seed=1), tmp_path / "w")
    assert content(tmp_path / "w") == before
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_too_many_classes_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="20 classes at most, not 21"):
        generate(spec(classes=21), tmp_path / "w")


def test_the_command_line_writes_to_the_registrys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path))
    assert main(["generate", "world-smoke"]) == 0
    assert resolve_dataset("world-smoke").version == dataset_version(find_spec("world-smoke"))
    assert main(["generate", "world-smoke", "--output", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "manifest.json").is_file()
    assert main(["generate", "imagenet"]) == 2
    assert "is a real one" in capsys.readouterr().err
