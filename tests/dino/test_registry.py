"""The registry of data sets and the user's paths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dino import registry
from dino.errors import UserError
from dino.registry import DatasetSpec, dataset_version, find_spec, load_registry, locate, missing_reason


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of registrations and a working directory without data-paths.yaml."""
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("DINO_DATASETS", str(tmp_path / "sets"))
    monkeypatch.delenv("DINO_DATA_PATHS", raising=False)
    monkeypatch.delenv("DINO_GENERATED_DATA", raising=False)
    monkeypatch.setattr(registry, "PROJECT_ROOT", tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sets"


def world(**settings: int) -> DatasetSpec:
    values = {"classes": 4, "train_per_class": 3, "test_per_class": 2, **settings}
    return DatasetSpec(name="w", kind="generated", title="w", generator="world", settings=values)  # type: ignore[arg-type]


def test_the_shipped_sets_are_registered_with_their_chance_level():
    specs = load_registry()
    chance = {name: round(spec.chance, 6) for name, spec in specs.items() if spec.chance is not None}
    assert chance == {
        "world-smoke": 20.0,
        "world-laptop": 5.0,
        "transfer-smoke": 25.0,
        "transfer-laptop": 8.333333,
        "cifar10": 10.0,
        "cifar10-small": 10.0,
        "cifar100": 1.0,
        "imagenet": 0.1,
        "inat18": 0.012282,
        "inat19": 0.09901,
        "flowers": 0.980392,
        "cars": 0.510204,
        "pets": 2.702703,
        "places205": 0.487805,
    }
    assert specs["imagenet"].splits == {"train": "train", "test": "val"}


def test_every_layout_is_registered_as_a_real_set_and_as_generated_ones_of_both_sizes():
    specs = load_registry()
    for real, generated in (
        ("voc12", "voc"),
        ("davis2017", "davis"),
        ("roxford5k", "oxford"),
        ("rparis6k", "paris"),
        ("copydays", "copydays"),
    ):
        assert {specs[f"{generated}-{scale}"].layout for scale in ("laptop", "smoke")} == {specs[real].layout}
        assert specs[real].counts
        assert specs[real].source
    assert specs["voc07"].layout == "multilabel"
    assert specs["voc07"].chance is None  # of an image with several classes
    assert specs["gldv2"].splits == {"train": "train"}


def test_versions_of_the_sets_that_results_exist_of_have_not_moved():
    versions = {name: dataset_version(find_spec(name)) for name in ("world-laptop", "world-smoke")}
    assert versions == {"world-laptop": "3936588050", "world-smoke": "176609f323"}


def test_settings_are_those_of_the_generator(folder: Path):
    text = "kind: generated\ntitle: x\ngenerator: {}\nsettings: {{classes: 3, train_per_class: 1, test_per_class: 1}}\n"
    (folder / "a.yaml").write_text(text.format("world"))
    assert find_spec("a").num_classes == 3
    (folder / "a.yaml").write_text(text.format("voc").replace("train_per_class", "train").replace("1}", "1, vall: 1}"))
    with pytest.raises(UserError, match=r"a\.yaml: settings: unknown key 'vall'; did you mean 'val'|'val': field"):
        find_spec("a")
    (folder / "a.yaml").write_text("kind: generated\ntitle: x\ngenerator: davis\nsettings: {val: 2}\n")
    assert find_spec("a").layout == "davis"
    assert find_spec("a").num_classes is None


def test_reading_the_registry_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from dino import registry; registry.load_registry(); print({'torch', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_version_covers_the_settings_and_the_generator_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    version = dataset_version(world())
    assert dataset_version(world().model_copy(update={"title": "another", "name": "x"})) == version
    assert dataset_version(world(seed=1)) != version
    monkeypatch.setitem(registry.GENERATOR_VERSION, "world", 99)
    assert dataset_version(world()) != version
    assert dataset_version(DatasetSpec(name="real", kind="imagefolder", title="r")) == ""


def test_a_misspelt_key_names_file_key_and_nearest(folder: Path):
    (folder / "a.yaml").write_text("kind: imagefolder\ntitel: x\ntitle: y\n")
    with pytest.raises(UserError, match=r"a\.yaml: unknown key 'titel'; did you mean 'title'"):
        load_registry()


@pytest.mark.parametrize("text", ["kind: generated\ntitle: no settings\n", "[1, 2]\n", "kind: [unclosed\n"])
def test_a_wrong_registration_names_its_file(folder: Path, text: str):
    (folder / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml"):
        load_registry()


def test_a_later_folder_overrides_an_earlier_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "more").mkdir()
    (folder / "a.yaml").write_text("kind: imagefolder\ntitle: first\n")
    (tmp_path / "more" / "a.yaml").write_text("kind: imagefolder\ntitle: second\n")
    monkeypatch.setenv("DINO_DATASETS", f"{folder}:{tmp_path / 'more'}")
    assert load_registry()["a"].title == "second"


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'world-laptop'"):
        find_spec("world-laptob")


def test_a_real_set_without_a_path_says_what_line_to_write(folder: Path):
    spec = DatasetSpec(name="imagenet", kind="imagefolder", title="t", source="https://example.org")
    assert locate(spec) is None
    reason = missing_reason(spec)
    assert reason is not None
    assert "https://example.org" in reason
    assert "imagenet: /path/to/it" in reason


def test_a_path_is_relative_to_the_file_that_holds_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = DatasetSpec(name="pets", kind="imagefolder", title="t")
    (tmp_path / "elsewhere" / "pets").mkdir(parents=True)
    (tmp_path / "elsewhere" / "paths.yaml").write_text("pets: pets\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "elsewhere" / "paths.yaml"))
    assert locate(spec) == (tmp_path / "elsewhere" / "pets").resolve()
    assert missing_reason(spec) is None
    (tmp_path / "elsewhere" / "pets").rmdir()
    assert locate(spec) is None
    assert "correct its line" in (missing_reason(spec) or "")


def test_the_working_directorys_paths_file_is_found(folder: Path, tmp_path: Path):
    (tmp_path / "data-paths.yaml").write_text(f"pets: {folder}\n")
    assert locate(DatasetSpec(name="pets", kind="imagefolder", title="t")) == folder.resolve()


def test_a_path_that_is_no_text_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "data-paths.yaml").write_text("pets: [a, b]\n")
    with pytest.raises(UserError, match="'pets' must be a path"):
        locate(DatasetSpec(name="pets", kind="imagefolder", title="t"))


def test_generated_sets_lie_under_results_or_where_the_variable_says(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert locate(world()) == Path("results/data/w")
    assert missing_reason(world()) is None
    monkeypatch.setenv("DINO_GENERATED_DATA", "/scratch")
    assert locate(world()) == Path("/scratch/w")
