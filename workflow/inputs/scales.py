"""Scales: what turns a recipe in the paper's units into what is run here.

`Scale.resolve` is the one place where that happens, in this order:

1. recipe and variant are merged and validated in the paper's units;
2. ``datasets`` and ``architectures`` replace the data set and the backbone;
3. ``epochs`` maps the length of the run, piecewise linearly between the listed points; every other duration
   (``*_epochs``) shrinks by the same ratio, so that a warm-up keeps its share of the run;
4. ``map`` (value by value) or, for a value that it does not list, ``multiply`` rewrites a field, whether the recipe or
   the variant set it; width, depth and heads only where the variant did;
5. ``set`` replaces what the recipe says of a field, but never what the variant itself overrides; ``cases`` put other
   rules over these three for the runs that they name, e.g. those of one objective;
6. a run of 0 epochs keeps only what its initialisation depends on, so that the random-weights row is one run however
   many studies show it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from dino.config import BACKBONE_FIELDS, CONVNETS, RunConfig, build_config
from dino.errors import UserError
from dino.protocols import PROTOCOLS, STAGES
from workflow.inputs.evaluations import Evaluation
from workflow.inputs.resources import ResourceCase, Resources, fits

INITIAL_FIELDS = (
    *("dataset", "dataset_version", "seed", "epochs", "global_crop_size"),
    *BACKBONE_FIELDS,
    *(name for name in RunConfig.model_fields if name.startswith("head_")),
    *("out_dim", "norm_last_layer"),
)
"""What an untrained network depends on; the crop size sizes the position table."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoCounterpart(UserError):
    """A data set or backbone of the paper's that a scale has nothing for: what needs it is not run there."""


class Absent(_Model):
    """A data set that a scale does without."""

    reason: str


class _ProtocolSettings(_Model):
    """Settings of the protocols at a scale, over those of `evaluations.yaml`; what is not said stays theirs."""

    def said(self, stage: str) -> dict[str, Any]:
        """What the scale's file says of a protocol, of features or of a picture."""
        settings = getattr(self, stage, None)
        return settings.model_dump(exclude_unset=True) if settings is not None else {}


if TYPE_CHECKING:
    ProtocolSettings = _ProtocolSettings
else:
    ProtocolSettings = create_model(
        "ProtocolSettings",
        __base__=_ProtocolSettings,
        __doc__=_ProtocolSettings.__doc__,
        **{
            name: (stage.settings_model, stage.settings_model())
            for name, stage in STAGES.items()
            if stage.settings_model.model_fields
        },
    )


class Rules(_Model):
    """What is rewritten of a run's fields."""

    set: dict[str, Any] = {}
    """Values that replace the recipe's."""
    map: dict[str, dict[Any, Any]] = {}
    """Values here, by the paper's, for each field."""
    multiply: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Factors on numeric fields, for values that ``map`` does not list; whole numbers stay whole."""


class Case(Rules):
    """Other rules for some runs, e.g. of one objective; of several cases that fit, a later one wins."""

    when: Annotated[dict[str, Any], Field(min_length=1)]
    """Fields of the run in the paper's units and the value, or list of values, that each must have."""
    why: str
    """The reason for the rules."""


class Scale(Rules):
    """One file of `workflow/scales/`."""

    name: str
    """The file's stem."""
    path: Path
    title: str
    comparable: bool = False
    """Whether accuracies may be compared with the published ones (ImageNet at the paper's settings)."""
    datasets: dict[str, str | Absent | None] = {}
    """Data set here, by the paper's; null, or ``{reason: ...}``, where there is none. Empty keeps all."""
    architectures: dict[str, dict[str, Any]] = {}
    """Backbone fields here, by the paper's ``arch/patch_size`` (``resnet50`` has no patch size). Empty keeps all."""
    epochs: dict[float, float] = {}
    """Epochs here, by the paper's; linear in between. Empty keeps all."""
    cases: list[Case] = []
    """Rules for some runs only, over those above."""
    protocols: ProtocolSettings = ProtocolSettings()
    """Settings of each protocol's evaluations."""
    evaluations: dict[str, dict[str, Any]] = {}
    """Settings of one evaluation alone, over those of its protocol."""
    subsets: dict[float, Annotated[float, Field(gt=0, le=1)]] = {}
    """Share of the labels here, by the paper's. Others are kept."""
    resources: dict[str, Resources] = {}
    """By rule."""
    resource_cases: list[ResourceCase] = []
    """Other resources for some runs only."""

    def resolve(self, recipe: dict[str, Any], override: dict[str, Any], *, seed: int, where: str) -> RunConfig:
        """The run of ``recipe`` with a variant's ``override`` at this scale; ``dataset_version`` is left empty.

        Raises:
            NoCounterpart: Its data set or backbone has none here.
            UserError: A wrong value, or another that this scale has no counterpart for; ``where`` says whose.
        """
        return self.resolve_both(recipe, override, seed=seed, where=where)[1]

    def resolve_both(
        self, recipe: dict[str, Any], override: dict[str, Any], *, seed: int, where: str
    ) -> tuple[RunConfig, RunConfig]:
        """The run in the paper's units, and the one here (`resolve`)."""
        paper = build_config({**recipe, **override, "seed": seed}, where=where)
        values = paper.model_dump()
        values["dataset"] = self.dataset(paper.dataset, where)
        values.update(
            {key: value for key, value in self._backbone(paper, where).items() if self._is_free(key, override)}
        )
        values["epochs"] = self._epochs(paper.epochs, where)
        ratio = values["epochs"] / paper.epochs if paper.epochs else 0.0
        for name in values:
            if name.endswith("_epochs"):
                values[name] = round(values[name] * ratio, 6)
        rules = self._rules(paper)
        for name, value in paper.model_dump().items():
            # An architecture's own width, depth or heads are the table's above; a variant's are mapped.
            if name in BACKBONE_FIELDS and name not in override:
                continue
            if name in rules.map and (value in rules.map[name] or name not in rules.multiply):
                values[name] = self._mapped(name, rules.map[name], value, where)
            elif name in rules.multiply and value is not None:  # an option that is off, such as a warm-up, stays off
                scaled = values[name] * rules.multiply[name]
                values[name] = max(1, round(scaled)) if isinstance(value, int) else round(scaled, 9)
        values.update({name: value for name, value in rules.set.items() if name not in override})
        if values["epochs"] == 0:
            values = {name: values[name] for name in INITIAL_FIELDS}
        return paper, build_config(values, where=f"{where} at scale {self.name}")

    def _rules(self, paper: RunConfig) -> Rules:
        """The rules for one run: the scale's own, under those of the cases that fit it."""
        rules = {name: dict(getattr(self, name)) for name in ("set", "map", "multiply")}
        for case in self.cases:
            if fits(case.when, paper.model_dump()):
                for name, merged in rules.items():
                    merged.update(getattr(case, name))
        return Rules(**rules)

    def _is_free(self, key: str, override: dict[str, Any]) -> bool:
        # arch and patch_size are what the table is looked up by; a variant's own width, depth or heads stay its own.
        return key in ("arch", "patch_size") or key not in override

    def dataset(self, name: str, where: str) -> str:
        """The data set that plays the part of the paper's ``name``.

        Raises:
            NoCounterpart: This scale has none.
        """
        if not self.datasets:
            return name
        here = self.datasets.get(name)
        if isinstance(here, Absent):
            raise NoCounterpart(f"{where}: no data set plays the part of {name} at scale {self.name}: {here.reason}")
        if here is None:
            raise NoCounterpart(self._no_counterpart("data set", name, "datasets", where))
        return here

    def _backbone(self, paper: RunConfig, where: str) -> dict[str, Any]:
        if not self.architectures:
            return {}
        key = architecture_key(paper.model_dump())
        if key not in self.architectures:
            raise NoCounterpart(self._no_counterpart("architecture", key, "architectures", where))
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

    def settings_of(self, evaluation: Evaluation, architecture: str) -> Any:
        """The settings of ``evaluation`` here, of a backbone of the paper's."""
        said = self.protocols.said(evaluation.protocol), self.evaluations.get(evaluation.name, {})
        return evaluation.kind.build_settings(evaluation.settings_for(architecture), *said)

    def subset(self, share: float | None) -> float | None:
        """The share of the labels here, by the paper's; None is all."""
        return share if share is None else self.subsets.get(share, share)

    def _resources(self, rule: str) -> Resources:
        for name in (rule, _stand_in(rule)):
            if name in self.resources:
                return self.resources[name]
        return Resources()

    def resources_of(self, rule: str, config: Mapping[str, Any] | None = None) -> Resources:
        """What a job of ``rule`` asks for; ``config`` are the fields of the run that it is for."""
        found = self._resources(rule)
        for case in self.resource_cases if config is not None else ():
            if rule in case.resources and fits(case.when, config or {}):
                found = found.model_copy(update=case.resources[rule].model_dump(exclude_unset=True))
        return found


def _stand_in(rule: str) -> str | None:
    """The rule whose resources a protocol's rule has where a scale says nothing of it."""
    protocol = PROTOCOLS.get(rule.removeprefix("evaluate_"))
    return f"evaluate_{protocol.resources_of}" if protocol is not None and protocol.resources_of else None


def architecture_key(fields: Mapping[str, Any]) -> str:
    """How scales and evaluations name a backbone of the paper's: ``vit_small/16``, ``resnet50``."""
    return str(fields["arch"]) if fields["arch"] in CONVNETS else f"{fields['arch']}/{fields['patch_size']}"
