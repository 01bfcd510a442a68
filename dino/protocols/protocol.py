"""What a protocol is: a subcommand, what it reads, and the metrics that it writes. Imports nothing heavy."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Better = Literal["higher", "lower", "neither"]
Reads = Literal["features", "images", "snapshots", "network", "pretraining"]
"""What a job of a protocol needs:

* ``features``: the feature files of a data set's training and test images, which such protocols share;
* ``images``: a checkpoint and a data set;
* ``snapshots``: those of a pretraining, and a data set;
* ``network``: a checkpoint alone;
* ``pretraining``: nothing; pretraining itself writes the metrics, so there is no job.
"""


@dataclass(frozen=True)
class Metric:
    """One number of a metrics file."""

    words: str
    """What people call it, with its unit; a capital K or L is the number in its name."""
    unit: str = "%"
    """As the metrics file has it."""
    better: Better = "higher"
    """The direction of improvement; ``neither`` for a size or a setting."""
    machine: bool = False
    """Whether it is the machine's as much as the network's: compared in direction, at any scale."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One subcommand whose results have a version: a protocol, the features that protocols read, a picture."""

    name: str
    """Of the subcommand; its module is ``dino.evaluation.<name>``, or ``command`` in a folder of that name."""
    help: str
    """What ``dino --help`` says of it."""
    code_version: int = 1
    """Raised by hand when a change of code changes the stage's results; part of what makes them stale."""
    settings: str = "Settings"
    """Name of the model in `dino.protocols.settings` of what evaluations and scales may say of it."""

    @cached_property
    def settings_model(self) -> Any:
        """The model of its settings, a `dino.protocols.settings.Settings` (imports pydantic)."""
        return getattr(importlib.import_module("dino.protocols.settings"), self.settings)

    def build_settings(self, *layers: dict[str, Any]) -> Any:
        """Its settings: the defaults under ``layers``, of which a later one wins.

        Raises:
            ValidationError: A key or value that it does not take.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            merged |= layer
        return self.settings_model(**merged)


@dataclass(frozen=True, kw_only=True)
class Protocol(Stage):
    """One evaluation of a checkpoint."""

    title: str
    """What tables call it; empty where its metrics say enough."""
    reads: Reads
    metrics: dict[str, Metric] = field(default_factory=dict)
    """Every metric that its files may hold. A capital K or L in a name is any number: ``top1_kK`` is ``top1_k20``."""
    resources_of: str = ""
    """The protocol whose resources a scale's file gives to this one, too, where it says nothing of it."""

    @property
    def needs_data(self) -> bool:
        """Whether an evaluation of it names a data set."""
        return self.reads in ("features", "images", "snapshots")

    @property
    def has_job(self) -> bool:
        """Whether a job of its own writes its metrics."""
        return self.reads != "pretraining"

    def find(self, metric: str) -> Metric | None:
        """The declaration of ``metric``; None where its files never hold such a number."""
        name = self._declared(metric)
        return None if name is None else self.metrics[name]

    def knows(self, metric: str) -> bool:
        """Whether its metrics file can hold ``metric``."""
        return self._declared(metric) is not None

    def words(self, metric: str) -> str:
        """What people call ``metric``: ``top1_k200`` -> ``top-1 (%), k = 200``; the name itself where it is unknown."""
        declared = self._declared(metric)
        if declared is None:
            return metric
        words = self.metrics[declared].words
        for number in re.findall(r"\d+", metric[len(re.split("[KL]", declared)[0]) :]):
            words = re.sub(r"\b[KL]\b", number, words, count=1)
        return words.replace("last 1 blocks", "last block")

    def names_like(self, metric: str) -> list[str]:
        """Metrics that it may write, each by a whole name: a capital K or L is a number of ``metric``."""
        numbers = re.findall(r"\d+", metric)
        names = list(self.metrics)
        if numbers:
            return [re.sub("[KL]", numbers[-1], name) for name in names]
        return [name for name in names if name not in self._patterns]

    def _declared(self, metric: str) -> str | None:
        if metric in self.metrics:
            return metric
        return next((name for name, pattern in self._patterns.items() if pattern.fullmatch(metric)), None)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(re.sub("[KL]", r"\\d+", name)) for name in self.metrics if re.search("[KL]", name)}
