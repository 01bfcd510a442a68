"""Scales: what turns a recipe in the paper's units into what is run here.

`Scale.resolve` is the one place where that happens, in this order:

1. recipe and variant are merged and validated in the paper's units;
2. ``datasets`` and ``architectures`` replace the data set and the backbone;
3. ``epochs`` maps the length of the run, piecewise linearly between the listed points; every other duration
   (``*_epochs``) shrinks by the same ratio, so that a warm-up keeps its share of the run;
4. ``map`` (value by value) and ``multiply`` rewrite fields, whether the recipe or the variant set them;
5. ``set`` replaces what the recipe says of a field, but never what the variant itself overrides;
6. a run of 0 epochs keeps only what its initialisation depends on, so that the random-weights row is one run however
   many studies show it.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dino.config import RunConfig, build_config, suggest
from dino.errors import UserError
from workflow.documents import Document, build_model, read_document

BACKBONE_FIELDS = ("arch", "patch_size", "embed_dim", "depth", "num_heads")
INITIAL_FIELDS = (
    *("dataset", "dataset_version", "seed", "epochs", "global_crop_size"),
    *BACKBONE_FIELDS,
    *(name for name in RunConfig.model_fields if name.startswith("head_")),
    *("out_dim", "norm_last_layer"),
)
"""What an untrained network depends on; the crop size sizes the position table."""

RULES = ("generate_data", "pretrain", "extract_features", "evaluate_knn", "make_table", "make_figure", "make_report")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Model):
    """What one job of a rule asks for, on this machine or from a scheduler."""

    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of a task."""
    mem_mb: Annotated[int, Field(ge=1)] = 2000
    runtime: Annotated[int, Field(ge=1)] = 60
    """Time limit in minutes."""
    gpu: Annotated[int, Field(ge=0)] = 0
    """GPUs on each node."""
    nodes: Annotated[int, Field(ge=1)] = 1
    tasks_per_node: Annotated[int, Field(ge=1)] = 1
    """Processes on each node: one a GPU for distributed training."""


class FeatureSettings(_Model):
    """How images are prepared for a frozen backbone (protocols C.1)."""

    image_size: Annotated[int, Field(ge=4)] = 224
    resize: Annotated[int, Field(ge=4)] = 256
    """Short side before the centre crop, in pixels."""
    batch_size: Annotated[int, Field(ge=1)] = 128


class KnnSettings(_Model):
    """Weighted k-NN (protocols C.1)."""

    k: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [10, 20, 100, 200]
    headline_k: int = 20
    temperature: Annotated[float, Field(gt=0)] = 0.07

    @model_validator(mode="after")
    def _headline_is_measured(self) -> KnnSettings:
        if self.headline_k not in self.k:
            raise ValueError(f"headline_k must be one of k {self.k}")
        return self


class ProtocolSettings(_Model):
    """Settings of the evaluations at a scale."""

    features: FeatureSettings = FeatureSettings()
    knn: KnnSettings = KnnSettings()


class Scale(_Model):
    """One file of `workflow/scales/`."""

    name: str
    """The file's stem."""
    path: Path
    title: str
    comparable: bool = False
    """Whether accuracies may be compared with the published ones (ImageNet at the paper's settings)."""
    datasets: dict[str, str] = {}
    """Data set here, by the paper's. Empty keeps all."""
    architectures: dict[str, dict[str, Any]] = {}
    """Backbone fields here, by the paper's ``arch/patch_size`` (``resnet50`` has no patch size). Empty keeps all."""
    epochs: dict[float, float] = {}
    """Epochs here, by the paper's; linear in between. Empty keeps all."""
    set: dict[str, Any] = {}
    """Values that replace the recipe's."""
    map: dict[str, dict[Any, Any]] = {}
    """Values here, by the paper's, for each field."""
    multiply: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Factors on numeric fields; whole numbers stay whole."""
    protocols: ProtocolSettings = ProtocolSettings()
    resources: dict[str, Resources] = {}
    """By rule."""

    def resolve(self, recipe: dict[str, Any], override: dict[str, Any], *, seed: int, where: str) -> RunConfig:
        """The run of ``recipe`` with a variant's ``override`` at this scale; ``dataset_version`` is left empty.

        Raises:
            UserError: A wrong value, or one that this scale has no counterpart for; ``where`` says whose.
        """
        paper = build_config({**recipe, **override, "seed": seed}, where=where)
        values = paper.model_dump()
        values["dataset"] = self._dataset(paper.dataset, where)
        values.update(
            {key: value for key, value in self._backbone(paper, where).items() if self._is_free(key, override)}
        )
        values["epochs"] = self._epochs(paper.epochs, where)
        ratio = values["epochs"] / paper.epochs if paper.epochs else 0.0
        for name in values:
            if name.endswith("_epochs"):
                values[name] = round(values[name] * ratio, 6)
        for name, table in self.map.items():
            values[name] = self._mapped(name, table, getattr(paper, name), where)
        for name, factor in self.multiply.items():
            if values[name] is None:  # an option that is off, such as a warm-up, stays off
                continue
            scaled = values[name] * factor
            values[name] = max(1, round(scaled)) if isinstance(values[name], int) else round(scaled, 9)
        values.update({name: value for name, value in self.set.items() if name not in override})
        if values["epochs"] == 0:
            values = {name: values[name] for name in INITIAL_FIELDS}
        return build_config(values, where=f"{where} at scale {self.name}")

    def _is_free(self, key: str, override: dict[str, Any]) -> bool:
        # arch and patch_size are what the table is looked up by; a variant's own width, depth or heads stay its own.
        return key in ("arch", "patch_size") or key not in override

    def _dataset(self, name: str, where: str) -> str:
        if not self.datasets:
            return name
        if name not in self.datasets:
            raise UserError(self._no_counterpart("data set", name, "datasets", where))
        return self.datasets[name]

    def _backbone(self, paper: RunConfig, where: str) -> dict[str, Any]:
        if not self.architectures:
            return {}
        key = paper.arch if paper.arch == "resnet50" else f"{paper.arch}/{paper.patch_size}"
        if key not in self.architectures:
            raise UserError(self._no_counterpart("architecture", key, "architectures", where))
        return self.architectures[key]

    def _epochs(self, epochs: float, where: str) -> float:
        if not self.epochs:
            return epochs
        points = sorted(self.epochs.items())
        for (left, low), (right, high) in itertools.pairwise(points):
            if left <= epochs <= right:
                return round(low + (high - low) * (epochs - left) / (right - left), 6)
        raise UserError(self._no_counterpart("length", f"{epochs:g} epochs", "epochs", where))

    def _mapped(self, name: str, table: dict[Any, Any], value: Any, where: str) -> Any:
        if value not in table:
            raise UserError(self._no_counterpart(name, value, f"map: {name}", where))
        return table[value]

    def _no_counterpart(self, what: str, value: Any, key: str, where: str) -> str:
        return f"{where}: {what} {value} has no counterpart at scale {self.name}; add it to '{key}' in {self.path}"

    def resources_of(self, rule: str) -> Resources:
        """What a job of ``rule`` asks for."""
        return self.resources.get(rule, Resources())


def scale_names(folder: Path) -> list[str]:
    """The names of the scales in ``folder``, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_scale(folder: Path, name: str) -> Scale:
    """Read and check the scale ``name``.

    Raises:
        UserError: No such scale (the nearest is suggested), or a mistake in it, with file, line and key.
    """
    known = scale_names(folder)
    if name not in known:
        raise UserError(f"no scale '{name}'{suggest(name, known)} (known: {', '.join(known)})")
    document = read_document(folder / f"{name}.yaml")
    scale = build_model(Scale, document, name=name, path=document.path)
    _check_fields(scale, document)
    return scale


def _check_fields(scale: Scale, document: Document) -> None:
    for section in ("set", "map", "multiply"):
        for key in getattr(scale, section):
            if key not in RunConfig.model_fields:
                document.fail_unknown((section, key), RunConfig.model_fields)
            if key in ("epochs", "dataset", "dataset_version", "seed"):
                document.fail((section, key), "use the scale's own 'epochs' or 'datasets'; the rest is the workflow's")
    for name in scale.multiply:
        default = RunConfig.model_fields[name].default
        if isinstance(default, bool) or not isinstance(default, int | float):
            document.fail(("multiply", name), "only numbers can be multiplied")
    for name, fields in scale.architectures.items():
        for key in fields:
            if key not in BACKBONE_FIELDS:
                document.fail_unknown(("architectures", name, key), BACKBONE_FIELDS)
    points = sorted(scale.epochs.items())
    if len(points) == 1:
        document.fail(("epochs",), "give at least two points")
    for (left, low), (right, high) in itertools.pairwise(points):
        if high < low:
            document.fail(("epochs",), f"must not fall: {left:g} becomes {low:g}, but {right:g} becomes {high:g}")
    for rule in scale.resources:
        if rule not in RULES:
            document.fail_unknown(("resources", rule), RULES, what="rule")
