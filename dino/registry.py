"""The data sets a run can name: what they are (``dino/datasets/*.yaml``) and where they lie (``data-paths.yaml``).

A generated set is made by ``dino generate`` under ``results/data/<name>``. A real set lies where the user's
``data-paths.yaml`` says (``imagenet: /data/imagenet``). This module imports neither torch nor numpy: planning reads it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dino.data.generated.schemas import SETTINGS, AnySettings
from dino.errors import UserError, explain_validation, suggest

GENERATOR_VERSION: dict[str, int] = {"world": 2, "voc": 2, "davis": 2, "landmarks": 2, "copydays": 2}
"""Raised by hand when a generator's images change; part of `dataset_version`: other images, other runs."""

PROJECT_ROOT = Path(__file__).resolve().parent.parent
PATHS_FILE = "data-paths.yaml"

Layout = Literal["imagefolder", "torchvision", "multilabel", "voc", "davis", "revisited", "copydays"]
"""How a set lies on disk (docs/data.md):

* ``imagefolder``: ``<split>/<class>/*``; ``torchvision``: that, or the layout torchvision's downloads have;
* ``multilabel``: a VOCdevkit year's classification lists; ``voc``: the same with its segmentation masks;
* ``davis``: DAVIS 2017; ``revisited``: ``jpg/`` and ``gnd_<name>.pkl``; ``copydays``: originals, copies, distractors.
"""

Generator = Literal["world", "voc", "davis", "landmarks", "copydays"]
GENERATED_LAYOUT: dict[str, Layout] = {
    "world": "imagefolder",
    "voc": "voc",
    "davis": "davis",
    "landmarks": "revisited",
    "copydays": "copydays",
}
"""The real format that each generator writes."""


class DatasetSpec(BaseModel):
    """One registered data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    kind: Literal["generated"] | Layout
    """``generated``, or a real set's layout."""
    title: str
    classes: Annotated[int, Field(ge=2)] | None = None
    """Number of classes of a real set; a generated one has it in its settings."""
    splits: dict[str, str] = {"train": "train", "test": "test"}
    """Split name -> its folder, or its list where the layout has lists (VOCdevkit, DAVIS)."""
    generator: Generator | None = None
    settings: AnySettings | None = None
    """Settings of the generator; None for real sets."""
    source: str = ""
    """Where a person gets a real set."""
    counts: dict[str, Annotated[int, Field(ge=1)]] = {}
    """What the publishers say is in it: images a split (DAVIS: sequences), or a part's files (``queries``, ...)."""

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_generator(cls, values: Any) -> Any:
        model = SETTINGS.get(values.get("generator", "")) if isinstance(values, dict) else None
        if model is None or not isinstance(values.get("settings"), dict):
            return values
        try:
            return {**values, "settings": model(**values["settings"])}
        except ValidationError as error:
            raise ValueError(f"settings: {explain_validation(error, model)}") from None

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        if self.kind == "generated" and (self.settings is None or self.generator is None):
            raise ValueError("a generated data set needs 'generator' and 'settings'")
        if self.kind != "generated" and self.settings is not None:
            raise ValueError("'settings' belong to generated data sets only")
        return self

    @property
    def layout(self) -> Layout:
        """How it lies on disk: a generated set is written as a real one."""
        return GENERATED_LAYOUT[str(self.generator)] if self.kind == "generated" else self.kind

    @property
    def num_classes(self) -> int | None:
        """Number of classes, where it has any and it is known without looking at the files."""
        return self.classes if self.settings is None else getattr(self.settings, "classes", None)

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing among balanced classes, in %; None where images have not one class each of a known
        number."""
        if self.num_classes is None or self.layout not in ("imagefolder", "torchvision"):
            return None
        return 100.0 / self.num_classes


def dataset_folders() -> list[Path]:
    """Folders that registered sets are read from: ``DINO_DATASETS`` (colon separated) or ``dino/datasets``."""
    given = os.environ.get("DINO_DATASETS", "")
    return [Path(part) for part in given.split(":") if part] or [Path(__file__).resolve().parent / "datasets"]


def load_registry() -> dict[str, DatasetSpec]:
    """All registered data sets by name; a later folder overrides an earlier one.

    Raises:
        UserError: A file is not YAML or breaks the schema; names file and key.
    """
    specs: dict[str, DatasetSpec] = {}
    for folder in dataset_folders():
        for path in sorted(folder.glob("*.yaml")):
            spec = _read_spec(path, path.stat().st_mtime_ns)
            specs[spec.name] = spec
    return specs


@functools.lru_cache(maxsize=256)
def _read_spec(path: Path, mtime_ns: int) -> DatasetSpec:
    values = _read_mapping(path, "a mapping of data set keys")
    try:
        return DatasetSpec(**{"name": path.stem, **values})
    except ValidationError as error:
        raise UserError(f"{path}: {explain_validation(error, DatasetSpec)}") from None


def _read_mapping(path: Path, expected: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected {expected}")
    return values


def find_spec(name: str) -> DatasetSpec:
    """The registered data set ``name``.

    Raises:
        UserError: None of that name; the nearest is suggested.
    """
    specs = load_registry()
    if name not in specs:
        raise UserError(f"no data set '{name}'{suggest(name, specs)} (registered: {', '.join(sorted(specs))})")
    return specs[name]


def dataset_version(spec: DatasetSpec) -> str:
    """Ten hex digits of a generated set's settings and generator version; empty for real sets."""
    if spec.settings is None or spec.generator is None:
        return ""
    identity = {
        "generator": spec.generator,
        "version": GENERATOR_VERSION[spec.generator],
        "settings": spec.settings.model_dump(mode="json"),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def data_paths_file() -> Path | None:
    """The user's file of paths: ``DINO_DATA_PATHS``, else ``data-paths.yaml`` here, else in the project's root.

    Raises:
        UserError: ``DINO_DATA_PATHS`` names no file.
    """
    given = os.environ.get("DINO_DATA_PATHS")
    if given:
        if not Path(given).is_file():
            raise UserError(
                f"DINO_DATA_PATHS={given}: no such file; write one with lines like 'imagenet: /data/imagenet'"
            )
        return Path(given)
    for folder in (Path.cwd(), PROJECT_ROOT):
        if (folder / PATHS_FILE).is_file():
            return folder / PATHS_FILE
    return None


def _configured_path(name: str) -> Path | None:
    file = data_paths_file()
    if file is None:
        return None
    value = _read_mapping(file, "lines like 'imagenet: /data/imagenet'").get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{file}: '{name}' must be a path (got {value!r})")
    # A relative path means relative to the file that holds it, wherever the command is run.
    return (file.parent / os.path.expandvars(os.path.expanduser(value))).resolve()


def generated_path(name: str) -> Path:
    """Where the generated set ``name`` lies or will lie."""
    return Path(os.environ.get("DINO_GENERATED_DATA", "results/data")) / name


def locate(spec: DatasetSpec) -> Path | None:
    """The set's folder. A generated one's is given whether or not it has been made; None for a missing real one."""
    if spec.kind == "generated":
        return generated_path(spec.name)
    path = _configured_path(spec.name)
    return path if path is not None and path.is_dir() else None


def missing_reason(spec: DatasetSpec) -> str | None:
    """Why a set cannot be used and what to do about it, in one sentence; None if it can (or can be generated)."""
    if spec.kind == "generated":
        return None
    path = _configured_path(spec.name)
    origin = f" (from {spec.source})" if spec.source else ""
    if path is None:
        return (
            f"data set '{spec.name}' has no path: get it{origin} and add the line '{spec.name}: /path/to/it' "
            f"to {data_paths_file() or PATHS_FILE}"
        )
    if not path.is_dir():
        return f"data set '{spec.name}': no folder {path}; correct its line in {data_paths_file()}"
    return None
