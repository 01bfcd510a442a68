"""Where a study's variants stand on the numeric axis of its figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dino.config import RunConfig, load_recipe
from workflow.inputs.studies import Study
from workflow.results.summary import StudyResults


def settings(study: Study) -> dict[str, dict[str, Any]]:
    """Every field of each variant's run, in the paper's units: its own, its recipe's or the default."""
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    return {
        name: {**defaults, **load_recipe(variant.base or study.base), **variant.set}
        for name, variant in study.variants.items()
    }


def axis_values(results: StudyResults) -> dict[str, float] | None:
    """The value of the study's ``axis`` for each variant, or None where it is no number for all of them."""
    field, study = results.study.axis, results.study
    if field is None or any(variant.difference for variant in study.variants.values()):
        return None
    values = {name: fields[field] for name, fields in settings(study).items()}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
        return None
    return {name: float(value) for name, value in values.items()}


def special_variants(results: StudyResults) -> set[str]:
    """Variants that differ from most others in more than the axis (0.04 to 0.07 among constant temperatures)."""
    axis = results.study.axis
    rest = {
        name: tuple(sorted((key, repr(value)) for key, value in fields.items() if key != axis))
        for name, fields in settings(results.study).items()
        if fields["epochs"] != 0  # random weights are off every axis
    }
    usual = max(dict.fromkeys(rest.values()), key=list(rest.values()).count)
    return {name for name, setting in rest.items() if setting != usual}


def positions(values: Sequence[float]) -> tuple[list[float], bool]:
    """Where values stand on the x axis: as they are, or evenly spaced where a linear axis would crowd them.

    Returns:
        The positions, and whether they are evenly spaced (0, 0.9, 0.99, 0.999 would lie on top of each other).
    """
    distinct = sorted(set(values))
    gaps = [right - left for left, right in pairwise(distinct)]
    if gaps and min(gaps) < 0.05 * (distinct[-1] - distinct[0]):
        return [float(distinct.index(value)) for value in values], True
    return list(values), False
