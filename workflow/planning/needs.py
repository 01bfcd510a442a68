"""Which studies need which data sets and released weights, at each scale: what ``dino doctor`` asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino.config import RunConfig, load_recipe
from workflow.inputs.evaluations import evaluations
from workflow.inputs.scale_files import load_scale, scale_names
from workflow.inputs.scales import NoCounterpart, Scale
from workflow.inputs.studies import Study, is_mean, load_study, study_names


@dataclass(frozen=True)
class Needs:
    """What stands behind the studies."""

    datasets: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Registered name of a data set -> scale -> studies that read it there."""
    weights: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Name of released weights -> scale -> studies with a row of them."""

    def document(self) -> dict[str, Any]:
        """For a program."""
        return {"datasets": self.datasets, "weights": self.weights}

    def lines(self) -> list[str]:
        """For people: a line for each data set or weights and scale."""
        return [
            f"{name} ({scale}): {', '.join(studies)}"
            for table in (self.datasets, self.weights)
            for name, scales in table.items()
            for scale, studies in scales.items()
        ]


def find_needs(root: Path) -> Needs:
    """The needs of all studies at all scales of the project in ``root``.

    Raises:
        UserError: A mistake in a study or a scale.
    """
    studies = [load_study(root / "ablations" / f"{name}.yaml") for name in study_names(root / "ablations")]
    needs = Needs()
    for name in scale_names(root / "workflow" / "scales"):
        scale = load_scale(root / "workflow" / "scales", name)
        for study in studies:
            for table, needed in ((needs.datasets, _datasets(study, scale)), (needs.weights, _weights(study, scale))):
                for each in dict.fromkeys(needed):
                    table.setdefault(each, {}).setdefault(name, []).append(study.name)
    return needs


def _datasets(study: Study, scale: Scale) -> Iterator[str]:
    """The registered data sets that the rows of ``study`` are trained, measured and drawn on at ``scale``."""
    for name, variant in study.variants.items():
        if variant.quoted or variant.difference:
            continue
        external = variant.weights is not None
        if external and not scale.comparable and not variant.set and variant.base is None:
            continue  # not run there
        asked = [evaluations()[metric.split(".")[0]].dataset for metric in _measured(study, name)]
        asked += [picture.dataset for picture in study.pictures.values() if picture.of == name]
        if not (external and scale.comparable):
            recipe = load_recipe(variant.base or study.base)
            asked.append({"dataset": RunConfig().dataset, **recipe, **variant.set}["dataset"])
        for dataset in asked:
            try:
                if dataset is not None:
                    yield scale.dataset(dataset, study.name)
            except NoCounterpart:
                continue


def _measured(study: Study, variant: str) -> list[str]:
    return [metric for metric in study.metrics_of(variant) if not is_mean(metric)]


def _weights(study: Study, scale: Scale) -> Iterator[str]:
    """The released weights that rows of ``study`` show at ``scale``, or may show in place of a pretraining."""
    if scale.comparable:
        for variant in study.variants.values():
            yield from (name for name in (variant.weights, variant.released) if name is not None)
