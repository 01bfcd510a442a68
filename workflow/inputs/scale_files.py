"""Scales read from their files and checked: the names in one are those of fields, rules, data sets and evaluations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dino.config import BACKBONE_FIELDS, RunConfig
from dino.errors import UserError, suggest
from dino.registry import load_registry
from workflow.inputs.documents import Document, KeyPath, build_model, fail_validation, read_document
from workflow.inputs.evaluations import evaluations
from workflow.inputs.resources import RULES
from workflow.inputs.scales import Rules, Scale


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
    check_scale(scale, document)
    return scale


def check_scale(scale: Scale, document: Document) -> None:
    """Check what the schema alone cannot.

    Raises:
        UserError: The first mistake, with file, line and key.
    """
    _check_rules(scale, (), document)
    for index, case in enumerate(scale.cases):
        _check_rules(case, ("cases", index), document)
        _check_when(case.when, ("cases", index, "when"), document)
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
    _check_evaluations(scale, document)
    _check_resources(scale, document)


def _check_rules(rules: Rules, where: KeyPath, document: Document) -> None:
    for section in ("set", "map", "multiply"):
        for key in getattr(rules, section):
            if key not in RunConfig.model_fields:
                document.fail_unknown((*where, section, key), RunConfig.model_fields)
            if key in ("epochs", "dataset", "dataset_version", "seed"):
                message = "use the scale's own 'epochs' or 'datasets'; the rest is the workflow's"
                document.fail((*where, section, key), message)
    for name in rules.multiply:
        default = RunConfig.model_fields[name].default
        if isinstance(default, bool) or not isinstance(default, int | float):
            document.fail((*where, "multiply", name), "only numbers can be multiplied")


def _check_when(when: Mapping[str, Any], where: KeyPath, document: Document) -> None:
    for key in when:
        if key not in RunConfig.model_fields:
            document.fail_unknown((*where, key), RunConfig.model_fields)


def _check_evaluations(scale: Scale, document: Document) -> None:
    known = evaluations()
    papers = {each.dataset for each in known.values() if each.dataset}
    for name, values in scale.evaluations.items():
        where = ("evaluations", name)
        if name not in known:
            document.fail_unknown(where, known, what="evaluation")
        try:
            known[name].kind.build_settings(values)
        except ValidationError as error:
            fail_validation(document, error, known[name].kind.settings_model, prefix=where)
    for name in scale.datasets:
        if name not in papers and name not in load_registry():
            document.fail_unknown(("datasets", name), sorted(papers | set(load_registry())), what="data set")
    for name, here in scale.datasets.items():
        if isinstance(here, str) and here not in load_registry():
            document.fail_unknown(("datasets", name, here), load_registry(), what="data set")


def _check_resources(scale: Scale, document: Document) -> None:
    for rule in scale.resources:
        if rule not in RULES:
            document.fail_unknown(("resources", rule), RULES, what="rule")
    for index, case in enumerate(scale.resource_cases):
        _check_when(case.when, ("resource_cases", index, "when"), document)
        for rule in case.resources:
            if rule not in RULES:
                document.fail_unknown(("resource_cases", index, "resources", rule), RULES, what="rule")
