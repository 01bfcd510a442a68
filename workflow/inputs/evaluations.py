"""Evaluations: the entries of `workflow/evaluations.yaml`, each a protocol on a data set, in the paper's units."""

from __future__ import annotations

import functools
import keyword
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino.errors import UserError
from dino.protocols import PROTOCOLS
from dino.protocols.protocol import Protocol
from workflow.inputs.documents import NAME, Document, fail_validation, read_document

EVALUATIONS_FILE = Path(__file__).resolve().parent.parent / "evaluations.yaml"


class Evaluation(BaseModel):
    """One protocol on one data set."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    protocol: str
    dataset: str | None = None
    """The paper's name of the data set; None where the protocol needs none."""
    subset: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the training labels; None is all."""
    title: str = ""
    """What tables call it; empty is the protocol's own title."""
    by_architecture: dict[str, dict[str, Any]] = {}
    """Other settings for some backbones, by the paper's ``arch/patch_size``."""

    @property
    def kind(self) -> Protocol:
        """Its protocol."""
        return PROTOCOLS[self.protocol]

    def settings_for(self, architecture: str) -> dict[str, Any]:
        """What the entry says of the protocol's settings, in the paper's units, for a backbone of the paper's."""
        return {**(self.model_extra or {}), **self.by_architecture.get(architecture, {})}

    @property
    def shown(self) -> str:
        """What tables call it."""
        return self.title or self.kind.title


def evaluations() -> dict[str, Evaluation]:
    """All evaluations by name.

    Raises:
        UserError: A mistake in the file, with its line and key.
    """
    return _load(EVALUATIONS_FILE, EVALUATIONS_FILE.stat().st_mtime_ns)


def find_evaluation(metric: str) -> Evaluation:
    """The evaluation behind ``<evaluation>.<metric>``, which must be a known one."""
    return evaluations()[metric.split(".")[0]]


def is_machine_metric(metric: str) -> bool:
    """Whether a study's metric is the machine's as much as the network's: seconds, bytes, images a second."""
    name, _, rest = metric.partition(".")
    evaluation = evaluations().get(name)
    found = None if evaluation is None else evaluation.kind.find(rest)
    return found is not None and found.machine


def metric_words(metric: str) -> str:
    """A metric's name for people: ``knn_1pct.top1_k200`` -> ``k-NN, 1 % of the labels: top-1 (%), k = 200``."""
    name, _, rest = metric.partition(".")
    evaluation = evaluations().get(name)
    if evaluation is None:
        return f"mean, {rest.replace('_', ' ')}" if name == "mean" else metric
    joint = ": " if "," in evaluation.shown else " "
    return f"{evaluation.shown}{joint if evaluation.shown else ''}{evaluation.kind.words(rest)}"


@functools.lru_cache(maxsize=8)
def _load(path: Path, changed: int) -> dict[str, Evaluation]:
    document = read_document(path)
    return {name: _read(name, values, document) for name, values in document.values.items()}


def _read(name: str, values: Any, document: Document) -> Evaluation:
    if not NAME.fullmatch(str(name)) or keyword.iskeyword(name):
        document.fail((name,), "an evaluation's name is an identifier of a-z, 0-9 and _, and no reserved word")
    if not isinstance(values, dict):
        document.fail((name,), "expected a mapping such as {protocol: knn, dataset: imagenet}")
    if "protocol" in values and values["protocol"] not in PROTOCOLS:
        document.fail_unknown((name, "protocol", values["protocol"]), PROTOCOLS, what="protocol")
    try:
        evaluation = Evaluation(**{"name": name, **values})
    except ValidationError as error:
        fail_validation(document, error, Evaluation, prefix=(name,), hidden=("name",))
    if evaluation.kind.needs_data != (evaluation.dataset is not None):
        wants = "needs a 'dataset'" if evaluation.kind.needs_data else "has no data set"
        document.fail((name,), f"the protocol '{evaluation.protocol}' {wants}")
    _check_settings(evaluation, document)
    return evaluation


def _check_settings(evaluation: Evaluation, document: Document) -> None:
    model = evaluation.kind.settings_model
    layers: dict[tuple[str, ...], dict[str, Any]] = {(evaluation.name,): evaluation.model_extra or {}}
    layers |= {(evaluation.name, "by_architecture", key): said for key, said in evaluation.by_architecture.items()}
    for where, said in layers.items():
        try:
            evaluation.kind.build_settings(said)
        except ValidationError as error:
            fail_validation(document, error, model, prefix=where)


def unknown_metric(metric: str) -> list[str] | None:
    """None for a metric that some evaluation has; else those that it may have meant, each of which there is."""
    name, _, rest = metric.partition(".")
    known = evaluations()
    if name in known and known[name].kind.knows(rest):
        return None
    asked = [name] if name in known else list(known)
    found = [f"{each}.{rest}" for each in asked if known[each].kind.knows(rest)]
    return found + [f"{each}.{metric}" for each in asked for metric in known[each].kind.names_like(rest)]


def check_evaluation_names(names: list[str]) -> None:
    """Each of ``names`` must be an evaluation.

    Raises:
        UserError: It is none; the nearest is suggested.
    """
    from dino.errors import suggest

    for name in names:
        if name not in evaluations():
            raise UserError(f"no evaluation '{name}'{suggest(name, evaluations())} (known: {', '.join(evaluations())})")
