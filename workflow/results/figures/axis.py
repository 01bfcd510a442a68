"""Where a study's variants stand on the numeric axis of its figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dino.config import RunConfig, load_recipe
from workflow.results.summary import StudyResults


def axis_values(results: StudyResults) -> dict[str, float] | None:
    """The value of the study's ``axis`` for each variant, or None where it is no number for all of them.

    A variant that does not set the axis has its recipe's value.
    """
    field, study = results.study.axis, results.study
    if field is None or any(variant.difference for variant in study.variants.values()):
        return None
    values = {
        name: variant.set.get(
            field, load_recipe(variant.base or study.base).get(field, RunConfig.model_fields[field].default)
        )
        for name, variant in study.variants.items()
    }
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
        return None
    return {name: float(value) for name, value in values.items()}


def special_variants(results: StudyResults) -> set[str]:
    """Variants that differ from most others in more than the axis (0.04 to 0.07 among constant temperatures)."""
    study = results.study
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    rest = {}
    for name, variant in study.variants.items():
        if variant.set.get("epochs") == 0:  # random weights are off every axis
            continue
        recipe = load_recipe(variant.base or study.base)
        merged = {key: value for key, value in {**defaults, **recipe, **variant.set}.items() if key != study.axis}
        rest[name] = tuple(sorted((key, repr(value)) for key, value in merged.items()))
    settings = list(rest.values())
    usual = max(dict.fromkeys(settings), key=settings.count)
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
