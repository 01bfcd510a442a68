"""Evaluations as they run at one scale: which data set plays the part, which share of its labels, which settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from dino.registry import dataset_version, find_spec, missing_reason
from workflow.inputs.evaluations import Evaluation, evaluations
from workflow.inputs.scales import NoCounterpart, Scale


@dataclass(frozen=True)
class DataState:
    """What the plan must know of a data set: its version (part of a run's identity) and why it cannot be used."""

    version: str
    """Digest of a generated set's settings; empty for real sets."""
    missing: str | None
    """Why it cannot be used, with the way out; None where it can."""
    chance: float | None
    """Accuracy of guessing, in %."""


def data_state(name: str) -> DataState:
    """Version and availability of a registered data set."""
    spec = find_spec(name)
    return DataState(version=dataset_version(spec), missing=missing_reason(spec), chance=spec.chance)


@dataclass(frozen=True)
class Placed:
    """One evaluation at one scale, of one of the paper's backbones."""

    name: str
    """Its metrics file's name: that of the first evaluation that is the same measurement here."""
    evaluation: Evaluation
    dataset: str | None
    """Name of the registered data set; None where there is none to play the part, or none is needed."""
    subset: float | None
    """Share of the training labels; None is all."""
    options: str
    """The protocol's settings as a command line."""
    absent: str | None = None
    """Why the scale has no data set for it."""

    @property
    def protocol(self) -> str:
        """Its protocol's name."""
        return self.evaluation.protocol


class Placement:
    """All evaluations at one scale.

    Args:
        scale: The scale.
        asked: Names of the evaluations that run; the others' cells say that they were not asked for.
        assume_data: Whether missing data sets are taken to be there.
        state: What is known of a data set, by name.
    """

    def __init__(
        self, scale: Scale, *, asked: Collection[str], assume_data: bool, state: Callable[[str], DataState]
    ) -> None:
        self.scale = scale
        self.asked = asked
        self.assume_data = assume_data
        self.state = state
        self.of = functools.cache(self._of)

    def _of(self, name: str, architecture: str) -> Placed:
        """The evaluation ``name`` of a backbone that the paper calls ``architecture``."""
        return self._table(architecture)[name]

    @functools.cache  # noqa: B019  # a placement lives as long as its plan
    def _table(self, architecture: str) -> dict[str, Placed]:
        first: dict[Any, str] = {}
        table = {}
        for name, evaluation in evaluations().items():
            options = self.scale.settings_of(evaluation, architecture).options()
            try:
                dataset = None if evaluation.dataset is None else self.scale.dataset(evaluation.dataset, name)
                absent = None
            except NoCounterpart as error:
                dataset, absent = None, str(error).removeprefix(f"{name}: ")
            subset = self.scale.subset(evaluation.subset)
            same = (evaluation.protocol, dataset, subset, options)
            shared = name if absent else first.setdefault(same, name)
            table[name] = Placed(shared, evaluation, dataset, subset, options, absent)
        return table

    def missing(self, placed: Placed) -> str | None:
        """Why an evaluation cannot run here, apart from not being asked for; None where it can."""
        if placed.absent:
            return placed.absent
        if placed.dataset is None or self.assume_data:
            return None
        return self.state(placed.dataset).missing
