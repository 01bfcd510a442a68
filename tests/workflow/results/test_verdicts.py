from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino.metrics import Measure
from workflow.results.verdicts import GLOSSARY, TONES, Kind, Row, contrast, judge, published_collapse


def row(*values: float, published: float | None = None, n: int = 2000, **fields: Any) -> Row:
    measured = {seed: Measure(value=value, n=n) for seed, value in enumerate(values)}
    return Row(published=published, values=measured, **{"chance": 5.0, **fields})


REFERENCE = row(80.0, published=70.0)


def against(ours: Row, reference: Row | None = REFERENCE, **options: Any) -> str:
    return judge(ours, comparable=False, reference=reference, **options).text


# --- comparable scales -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "text"),
    [(69.7, "reproduced"), (70.7, "reproduced"), (68.7, "reproduced"), (70.8, "off by +1.1"), (60.0, "off by -9.7")],
)
def test_comparable_numbers_are_held_to_the_tolerance(ours: float, text: str):
    assert judge(row(ours, published=69.7), comparable=True).text == text


def test_tolerance_is_the_studys():
    assert judge(row(67.0, published=69.7), comparable=True, tolerance=3.0).kind is Kind.REPRODUCED


def test_comparable_collapse_is_reproduced_and_named():
    verdict = judge(row(0.1, published=0.1, collapses={0: "uniform"}), comparable=True)
    assert (verdict.kind, verdict.why) == (Kind.REPRODUCED, "uniform")


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 10))
def test_reproduced_exactly_within_the_tolerance(ours: float, published: float, tolerance: float):
    verdict = judge(row(ours, published=published), comparable=True, tolerance=tolerance)
    gap = abs(ours - published) - tolerance
    if abs(gap) > 1e-6:
        assert (verdict.kind is Kind.REPRODUCED) == (gap < 0)


# --- any scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("comparable", [True, False])
def test_rows_without_a_comparison_say_so(comparable: bool):
    assert judge(row(published=50.0, quoted=True), comparable=comparable).text == "quoted"
    assert judge(row(60.0), comparable=comparable).text == "measured"
    missing = row(published=50.0, missing="no data set imagenet")
    assert judge(missing, comparable=comparable).text == "not run (no data set imagenet)"
    assert judge(row(published=50.0), comparable=comparable).text == "not run (not yet)"


# --- other scales: directions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "ours", "text"),
    [
        (60.0, 70.0, "same direction"),
        (60.0, 90.0, "other direction"),
        (60.0, 79.5, "undecided"),  # the error of the difference is 1.3
        (75.0, 85.0, "same direction"),
        (75.0, 75.0, "other direction"),
        (75.0, 80.5, "undecided"),
        (69.5, 80.8, "same direction"),  # no difference in either
        (69.5, 81.5, "undecided"),  # beyond the tolerance, but not by more than the error
        (69.5, 75.0, "other direction"),
    ],
)
def test_direction_against_the_reference(published: float, ours: float, text: str):
    assert against(row(ours, published=published)) == text


def test_why_shows_both_differences_and_the_error():
    verdict = judge(row(70.0, published=60.0), comparable=False, reference=REFERENCE)
    assert verdict.why == "against the reference: paper -10.0; ours -10.0, error 1.4"


def test_the_reference_row_is_not_judged():
    assert against(REFERENCE) == "reference"


def test_without_a_reference_nothing_is_decided():
    assert against(row(70.0, published=60.0), reference=None) == "undecided"
    assert against(row(70.0, published=60.0), reference=row(published=70.0)) == "undecided"


def test_several_seeds_are_paired_with_the_references():
    reference = row(60.0, 70.0, 80.0, published=70.0)
    assert contrast(row(59.0, 69.1, 78.9).values, reference.values) == (
        pytest.approx(-1.0),
        pytest.approx(0.0577, abs=1e-3),
    )
    assert against(row(59.0, 69.1, 78.9, published=60.0), reference=reference) == "same direction"
    assert against(row(55.0, 75.0, 79.0, published=60.0), reference=reference) == "undecided"


def test_one_common_seed_falls_back_to_the_test_sets_error():
    difference, error = contrast(row(50.0).values, row(60.0, 90.0).values)
    assert difference == -10.0
    assert 1.4 < error < 1.7


@given(st.floats(1, 99), st.floats(1, 99), st.floats(0, 100), st.floats(0, 100))
def test_direction_is_symmetric_in_row_and_reference(ours: float, theirs: float, mine: float, its: float):
    first, second = row(ours, published=mine), row(theirs, published=its)
    if published_collapse(first) or published_collapse(second):
        return
    assert against(first, reference=second) == against(second, reference=first)


# --- other scales: collapse ------------------------------------------------------------------------------------------


def test_collapse_by_chance_or_by_name():
    assert against(row(9.9, published=0.1)) == "collapses as published"
    assert against(row(40.0, published=0.1, collapses={0: "uniform"})) == "collapses as published"
    assert against(row(40.0, published=0.1)) == "does not collapse"


def test_some_seeds_that_collapse_decide_nothing():
    verdict = judge(row(6.0, 60.0, published=0.1), comparable=False, reference=REFERENCE)
    assert verdict.kind is Kind.UNDECIDED
    assert verdict.why.startswith("1 of 2 seeds collapse")


def test_no_better_than_random_weights_fails_as_published():
    random = row(55.0)
    assert against(row(50.0, published=0.1), random=random) == "fails as published"
    assert against(row(55.5, published=0.1), random=random) == "fails as published"
    assert against(row(70.0, published=0.1), random=random) == "does not collapse"


def test_a_reference_that_collapsed_is_named():
    assert (
        "uniform"
        in judge(row(20.0, published=70.0, collapses={0: "uniform"}), comparable=False, reference=REFERENCE).why
    )


def test_a_published_value_without_chance_level_is_no_collapse():
    seconds = Row(published=0.1, values={0: Measure(value=0.2, unit="s")})
    assert not published_collapse(seconds)
    assert published_collapse(row(50.0, published=0.2))
    assert not published_collapse(row(50.0, published=0.3))


def test_every_word_has_a_tone_and_an_explanation():
    assert {*Kind} <= set(TONES)
    assert {*Kind} <= set(GLOSSARY)
