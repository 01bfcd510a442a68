"""Studies: the YAML files in `ablations/`, each one table or figure of the paper (or a user's own).

A study lists variants as overrides on a recipe in the paper's units, the metrics to measure, the published values and
the claims. Everything that a person can mistype is checked here, with file, line and key.
"""

from __future__ import annotations

import hashlib
import json
import keyword
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino.config import RECIPES, RunConfig, load_recipe
from dino.errors import UserError
from dino.released import RELEASED
from workflow.inputs.claims import FUNCTIONS, check_claim
from workflow.inputs.documents import NAME, Document, build_model, fail_validation, read_document
from workflow.inputs.evaluations import unknown_metric
from workflow.inputs.figure_spec import Figure, FigureSpec, check_figure
from workflow.inputs.picture_spec import Picture, check_pictures

Number = Annotated[float, Field(allow_inf_nan=False)]
RESERVED = frozenset({"chance", *FUNCTIONS, *keyword.kwlist})
"""Words that mean something else in a claim."""
_MEAN = "mean."


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Model):
    """One row or point of a study."""

    label: str
    """What tables and figures call it."""
    base: str | None = None
    """A recipe instead of the study's."""
    set: dict[str, Any] = {}
    """Overrides on the base recipe: fields of `dino.config.RunConfig`, in the paper's units."""
    published: dict[str, Number] = {}
    """Published values by metric, e.g. ``knn.top1: 43.9``."""
    metrics: list[str] | None = None
    """Measure these of the study's metrics only; all where nothing is said. What is published is always a cell."""
    quoted: bool = False
    """The numbers are quoted from elsewhere: nothing runs, and only what is published is a cell."""
    weights: str | None = None
    """External weights (`dino.released`), e.g. ``deit_small``, evaluated instead of a pretraining at scales that are
    comparable with the paper. Elsewhere the row trains its ``set``; with an empty one it is not run."""
    released: str | None = None
    """The authors' weights of this row, evaluated instead of a pretraining with ``--config weights=released``."""
    difference: tuple[str, str] | None = None
    """Two variants: the row is the first minus the second, and nothing runs for it."""
    row: int | list[int] | None = None
    """The row of the paper's table (``row_id`` of the published numbers), or several."""
    marks: dict[str, bool | str] = {}
    """Further columns of the table: a tick, a cross or a word by the column's title."""
    note: str | None = None
    """A footnote of the table."""

    @property
    def rows(self) -> list[int]:
        """The rows of the paper's table."""
        return self.row if isinstance(self.row, list) else [] if self.row is None else [self.row]


class Claim(_Model):
    """A checkable statement over a study's cells."""

    say: str
    """The statement in words."""
    check: str
    """The same as an expression: ``momentum.knn.top1 > student_copy.knn.top1``, ``t008.knn.top1 < 2 * chance``."""
    source: str
    """Where the paper says it, e.g. ``App. D``, or ``project check``."""


class Study(_Model):
    """One file of `ablations/`."""

    name: str
    """The file's stem."""
    path: Path
    title: str
    paper: str
    """The table, figure or section, e.g. ``App. D``."""
    table: str | None = None
    """Its name among the published numbers, e.g. ``T2``."""
    description: str = ""
    base: str
    """The recipe that variants override."""
    metrics: Annotated[list[str], Field(min_length=1)]
    """``evaluation.metric`` each (`workflow/evaluations.yaml`), or ``mean.<name>``; the first is the headline."""
    means: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    """``mean.<name>`` is the mean of these of the study's metrics."""
    variants: Annotated[dict[str, Variant], Field(min_length=1)]
    """In the order of the table."""
    claims: list[Claim] = []
    reference: str | None = None
    """The variant that the others are compared with."""
    axis: str | None = None
    """The configuration field that the variants vary, for plots."""
    figure: Figure = FigureSpec()
    """How its figure is drawn: a word (``bars``), or a mapping (`workflow.inputs.figure_spec`)."""
    pictures: dict[str, Picture] = {}
    """What is drawn of single networks."""
    tolerance: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Points within which a number counts as reproduced, by metric; 1 where nothing is said."""
    limits: dict[str, str] = {}
    """Why a contrast cannot show at a scale, by the scale's name."""

    @property
    def evaluations(self) -> list[str]:
        """The evaluations behind the metrics, each once, in order."""
        return list(dict.fromkeys(metric.split(".")[0] for metric in self.metrics if not is_mean(metric)))

    def parts_of(self, metric: str) -> list[str]:
        """The measured metrics behind one of the study's: those that a mean is of, else the metric itself."""
        return self.means[metric.removeprefix(_MEAN)] if is_mean(metric) else [metric]

    def metrics_of(self, name: str) -> list[str]:
        """The metrics that the variant ``name`` has cells for, in the study's order."""
        variant = self.variants[name]
        if variant.quoted:
            return [metric for metric in self.metrics if metric in variant.published]
        if variant.metrics is None:
            return self.metrics
        return [metric for metric in self.metrics if metric in variant.metrics or metric in variant.published]

    def digest(self) -> str:
        """Changes when anything that the artefacts show changes; comments and key order change nothing."""
        content = json.dumps(self.model_dump(mode="json", exclude={"path"}), sort_keys=False)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


HIDDEN = ("name", "path")
"""Fields of a `Study` that do not stand in the file."""


def is_mean(metric: str) -> bool:
    """Whether a study's metric is the mean of others, ``mean.<name>``."""
    return metric.startswith(_MEAN)


def study_names(folder: Path) -> list[str]:
    """The names of the studies in ``folder``, sorted; reads none of them."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of studies")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_study(path: Path) -> Study:
    """Read and check one study.

    Raises:
        UserError: Names file, line and key; a misspelt word comes with the nearest known one.
    """
    document = read_document(path)
    if not NAME.fullmatch(path.stem):
        raise UserError(f"{path}: a study's file name may hold a-z, 0-9 and _ only, and starts with a letter")
    study = build_model(Study, document, name=path.stem, path=path)
    _check_metrics(study, document)
    recipe = _check_base(study.base, ("base",), document)
    for name, variant in study.variants.items():
        _check_variant(name, variant, study, recipe, document)
    if study.reference is not None and study.reference not in study.variants:
        document.fail_unknown(("reference", study.reference), study.variants, what="variant")
    if study.axis is not None and study.axis not in RunConfig.model_fields:
        document.fail_unknown(("axis", study.axis), RunConfig.model_fields, what="configuration field")
    check_figure(study.figure, study.metrics, document)
    networks = [name for name, variant in study.variants.items() if not variant.quoted and variant.difference is None]
    check_pictures(study.pictures, networks, document)
    for index, claim in enumerate(study.claims):
        _check_claim(index, claim, study, document)
    return study


def _check_metrics(study: Study, document: Document) -> None:
    for index, metric in enumerate(study.metrics):
        _check_metric(metric, ("metrics", index, metric), study, document)
    for name, metrics in study.means.items():
        if not NAME.fullmatch(name):
            document.fail(("means", name), "a mean's name may hold a-z, 0-9 and _ only, and starts with a letter")
        for index, metric in enumerate(metrics):
            if is_mean(metric):
                document.fail(("means", name, index), "a mean is of measured metrics, not of means")
            if metric not in study.metrics:
                document.fail_unknown(("means", name, index, metric), study.metrics, what="metric")
    for key in study.tolerance:
        if key not in study.metrics:
            document.fail_unknown(("tolerance", key), study.metrics, what="metric")


def _check_metric(metric: str, where: tuple[str | int, ...], study: Study, document: Document) -> None:
    if is_mean(metric):
        known: list[str] | None = [f"{_MEAN}{name}" for name in study.means]
        known = None if metric in (known or []) else known or ["none: the study has no 'means'"]
    else:
        known = unknown_metric(metric)
    if known is not None:
        document.fail_unknown(where, known, what="metric")


def _check_base(base: str, where: tuple[str | int, ...], document: Document) -> dict[str, Any]:
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if base not in known:
        document.fail_unknown((*where, base), known, what="recipe")
    return load_recipe(base)


def _check_variant(name: str, variant: Variant, study: Study, recipe: dict[str, Any], document: Document) -> None:
    where = ("variants", name)
    if name in RESERVED:
        document.fail(where, "this word has a meaning in claims; choose another name")
    if not NAME.fullmatch(name):
        document.fail(
            where, "a variant's name may hold a-z, 0-9 and _ only, starts with a letter, and is no reserved word"
        )
    for key in variant.set:
        if key not in RunConfig.model_fields:
            document.fail_unknown((*where, "set", key), RunConfig.model_fields)
    for key in ("seed", "dataset_version"):
        if key in variant.set:
            document.fail((*where, "set", key), "this is set by the workflow; use `--config seeds=N` for more seeds")
    for key in variant.published:
        if key not in study.metrics:
            document.fail_unknown((*where, "published", key), study.metrics, what="metric")
    for index, key in enumerate(variant.metrics or []):
        if key not in study.metrics:
            document.fail_unknown((*where, "metrics", index, key), study.metrics, what="metric")
    _check_source(variant, where, study, document)
    if variant.base is not None:
        recipe = _check_base(variant.base, (*where, "base"), document)
    try:
        RunConfig(**{**recipe, **variant.set})
    except ValidationError as error:
        fail_validation(document, error, RunConfig, prefix=(*where, "set"))


def _check_source(variant: Variant, where: tuple[str, ...], study: Study, document: Document) -> None:
    """What a row's numbers come from: a run or weights, two other rows, or a quotation; one of them."""
    for key in ("weights", "released"):
        if (name := getattr(variant, key)) is not None and name not in RELEASED:
            document.fail_unknown((*where, key, name), RELEASED, what="weights")
    for index, other in enumerate(variant.difference or ()):
        if other not in study.variants or study.variants[other].difference is not None:
            others = [name for name, each in study.variants.items() if each.difference is None]
            document.fail_unknown((*where, "difference", index, other), others, what="variant")
    runs = [key for key in ("weights", "released", "metrics") if getattr(variant, key)]
    if variant.quoted and variant.difference:
        document.fail((*where, "difference"), "a quoted row is no difference of others")
    if runs and (variant.quoted or variant.difference):
        reason = "is quoted" if variant.quoted else "is a difference"
        document.fail((*where, runs[0]), f"the row {reason}, so nothing runs for it")


def _check_claim(index: int, claim: Claim, study: Study, document: Document) -> None:
    try:
        check_claim(claim.check, variants=list(study.variants), metrics=study.metrics)
    except UserError as error:
        document.fail(("claims", index, "check"), str(error))
