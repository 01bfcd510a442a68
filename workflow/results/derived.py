"""Rows that follow from others: the mean of several metrics, and the difference of two variants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dino.metrics import Measure
from workflow.inputs.studies import Study, is_mean
from workflow.results.claims import standard_error
from workflow.results.verdicts import Row

Key = tuple[str, str]
"""A variant and a metric."""


def zero_like(row: Row) -> Row:
    """What the direction of a difference is taken from: nothing, for each of its seeds."""
    return Row(published=0.0, values={seed: Measure(value=0.0, error=0.0) for seed in row.values})


def derive(study: Study, variant: str, metric: str, rows: Mapping[Key, Row]) -> Row:
    """The row of a mean (``mean.<name>``) or of a variant that is a difference, from the ``rows`` that were measured.

    A seed counts where all of its parts have it; errors add as those of independent numbers.
    """
    entry = study.variants[variant]
    published = entry.published.get(metric)
    if entry.quoted:
        return Row(published=published, values={}, quoted=True)
    if entry.difference is not None:
        first, second = (_row(study, other, metric, rows) for other in entry.difference)
        return _combined([(1.0, first), (-1.0, second)], published)
    parts = [rows[variant, part] for part in study.parts_of(metric) if (variant, part) in rows]
    return _combined([(1.0 / len(parts), part) for part in parts], published) if parts else Row(published, {})


def _row(study: Study, variant: str, metric: str, rows: Mapping[Key, Row]) -> Row:
    if is_mean(metric):
        return derive(study, variant, metric, rows)
    return rows.get((variant, metric)) or Row(published=None, values={}, missing="it is not measured")


def _combined(parts: Sequence[tuple[float, Row]], published: float | None) -> Row:
    seeds = set.intersection(*(set(row.values) for _, row in parts))
    values = {seed: _sum([(weight, row.values[seed]) for weight, row in parts]) for seed in sorted(seeds)}
    missing = [row.missing for _, row in parts if row.missing]
    return Row(published=published, values=values, missing="; ".join(dict.fromkeys(missing)) or None)


def _sum(parts: Sequence[tuple[float, Measure]]) -> Measure:
    return Measure(
        value=math.fsum(weight * cell.value for weight, cell in parts),
        n=None,
        unit=parts[0][1].unit,
        error=math.hypot(*(weight * standard_error(cell) for weight, cell in parts)),
    )
