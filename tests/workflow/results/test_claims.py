from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino.errors import UserError
from dino.metrics import Measure
from workflow.results.claims import ClaimVerdict, evaluate, standard_error

CELLS = ("a.knn.top1", "b.knn.top1", "c.knn.top1")


def decide(text: str, chance: float | None = 10.0, n: int | None = 1000, **values: float | list[float]) -> ClaimVerdict:
    """Evaluate with cells a, b, c given as one number (one seed) or a list (seeds 0, 1, ...)."""
    table = {
        f"{name}.knn.top1": dict(
            enumerate(Measure(value=v, n=n) for v in (value if isinstance(value, list) else [value]))
        )
        for name, value in values.items()
    }
    return evaluate(text, values=table, chance=chance)


# --- one seed --------------------------------------------------------------------------------------------------------


def test_one_seed_decides_beyond_one_standard_error():
    error = math.hypot(*(standard_error(Measure(value=value, n=1000)) for value in (70.0, 68.0)))
    assert 2.0 < error < 2.1
    assert decide("a.knn.top1 > b.knn.top1", a=70.0, b=70.0 - error - 0.1).word == "holds"
    assert decide("a.knn.top1 > b.knn.top1", a=70.0, b=70.0 + error + 0.1).word == "fails"
    assert decide("a.knn.top1 > b.knn.top1", a=70.0, b=68.1).word == "undecided"
    assert decide("a.knn.top1 > b.knn.top1", a=68.1, b=70.0).word == "undecided"


def test_error_against_a_number_is_that_of_one_cell():
    error = standard_error(Measure(value=10.0, n=1000))
    assert error == pytest.approx(math.sqrt(10 * 90 / 1000), rel=0.02)  # the binomial error, in points
    assert decide("a.knn.top1 < chance", a=10.0 - 1.05 * error).word == "holds"
    assert decide("a.knn.top1 < chance", a=10.0 - 0.9 * error).word == "undecided"


def test_error_follows_the_arithmetic():
    # 2a has twice the error of a; the mean of two equal cells has 1 / sqrt(2) of it.
    error = standard_error(Measure(value=50.0, n=1000))
    assert decide("2 * a.knn.top1 > 100", a=50.0 + 0.9 * error).word == "undecided"
    assert decide("2 * a.knn.top1 > 100", a=50.0 + 1.1 * error).word == "holds"
    assert decide("mean(a.knn.top1, b.knn.top1) > 50", a=50.0 + 0.8 * error, b=50.0 + 0.8 * error).word == "holds"
    assert decide("mean(a.knn.top1, b.knn.top1) > 50", a=50.0 + 0.6 * error, b=50.0 + 0.6 * error).word == "undecided"
    assert decide("a.knn.top1 / b.knn.top1 > 1", a=70.0, b=69.0).word == "undecided"
    assert decide("a.knn.top1 / b.knn.top1 > 1", a=70.0, b=60.0).word == "holds"


def test_a_cell_on_both_sides_has_no_error():
    assert decide("a.knn.top1 + 0.01 > a.knn.top1", a=50.0, n=10).word == "holds"
    assert decide("a.knn.top1 - a.knn.top1 < 0.01", a=50.0, n=10).word == "holds"


def test_without_a_test_set_size_the_number_is_taken_as_it_is():
    assert decide("a.knn.top1 > b.knn.top1", a=70.0, b=69.99, n=None).word == "holds"


def test_zero_and_hundred_percent_are_not_exact():
    assert standard_error(Measure(value=0.0, n=50)) > 1.0
    assert standard_error(Measure(value=100.0, n=50)) == pytest.approx(standard_error(Measure(value=0.0, n=50)))
    assert standard_error(Measure(value=12.0, n=50, unit="im/s")) == 0.0


@pytest.mark.parametrize(
    ("text", "word"),
    [  # a > b holds, a > c is undecided, b > a fails
        ("a.knn.top1 > b.knn.top1 and a.knn.top1 > c.knn.top1", "undecided"),
        ("b.knn.top1 > a.knn.top1 and a.knn.top1 > c.knn.top1", "fails"),
        ("a.knn.top1 > b.knn.top1 or a.knn.top1 > c.knn.top1", "holds"),
        ("b.knn.top1 > a.knn.top1 or a.knn.top1 > c.knn.top1", "undecided"),
        ("not a.knn.top1 > c.knn.top1", "undecided"),
        ("not b.knn.top1 > a.knn.top1", "holds"),
        ("a.knn.top1 > c.knn.top1 > b.knn.top1", "undecided"),
        ("b.knn.top1 > c.knn.top1 > a.knn.top1", "fails"),
    ],
)
def test_doubt_passes_through_and_or_not_and_chains(text: str, word: str):
    assert decide(text, a=70.0, b=50.0, c=69.9).word == word


def test_division_by_zero_is_undecided():
    assert decide("a.knn.top1 / b.knn.top1 > 1", a=70.0, b=0.0).word == "undecided"
    assert decide("a.knn.top1 / b.knn.top1 > 1", a=[70.0, 71.0], b=[0.0, 0.0]).word == "undecided"


# --- several seeds ---------------------------------------------------------------------------------------------------


def test_several_seeds_are_paired():
    # The ranges overlap; within each seed a is above b.
    verdict = decide("a.knn.top1 > b.knn.top1", a=[60.0, 70.0, 80.0], b=[59.9, 69.9, 79.9])
    assert verdict.word == "holds"
    assert verdict.why == "true of 3 of 3 seeds and of their mean"
    assert verdict.numbers == "70.0 > 69.9"


def test_seeds_that_disagree_are_undecided():
    verdict = decide("a.knn.top1 > b.knn.top1", a=[71.0, 71.0, 60.0], b=[70.0, 70.0, 70.0])
    assert verdict.word == "undecided"
    assert verdict.why == "true of 2 of 3 seeds but not of their mean"


def test_true_of_no_seed_and_not_of_the_mean_fails():
    assert decide("a.knn.top1 > b.knn.top1", a=[1.0, 2.0], b=[3.0, 4.0]).word == "fails"


def test_true_of_no_seed_but_of_the_mean_is_undecided():
    # abs is not linear: every seed is 10 away, the mean 0.
    verdict = decide("abs(a.knn.top1 - 50) < 5", a=[40.0, 60.0])
    assert verdict.word == "undecided"
    assert verdict.why == "true of 0 of 2 seeds and of their mean"


def test_only_seeds_that_have_every_cell_count():
    values = {
        "a.knn.top1": {0: Measure(value=60.0), 1: Measure(value=1.0), 2: Measure(value=60.0)},
        "b.knn.top1": {0: Measure(value=50.0), 2: Measure(value=50.0)},
    }
    verdict = evaluate("a.knn.top1 > b.knn.top1", values=values)
    assert verdict.word == "holds"
    assert verdict.why.endswith("2 of 3 seeds measured")
    del values["b.knn.top1"][0], values["a.knn.top1"][2]
    assert evaluate("a.knn.top1 > b.knn.top1", values=values).word == "not run"


def test_missing_cell_says_why():
    verdict = evaluate(
        "a.knn.top1 > 2 * chance", values={"a.knn.top1": {}}, missing={"a.knn.top1": "no data set imagenet"}
    )
    assert str(verdict) == "not run: a.knn.top1: no data set imagenet"


def test_chance_that_nobody_measured_is_a_mistake_in_the_study():
    with pytest.raises(UserError, match="uses chance"):
        decide("a.knn.top1 > chance", chance=None, a=50.0)


# --- laws ------------------------------------------------------------------------------------------------------------

percent = st.floats(0, 100, allow_nan=False)
seeds = st.integers(1, 4).flatmap(lambda n: st.tuples(*(st.lists(percent, min_size=n, max_size=n) for _ in range(3))))
comparison = st.tuples(st.sampled_from(CELLS), st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from(CELLS)).map(
    " ".join
)
claim = st.recursive(
    comparison,
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: "({}) {} ({})".format(*parts)),
    ),
    max_leaves=4,
)
FLIPPED = {"holds": "fails", "fails": "holds", "undecided": "undecided"}


def _values(numbers: tuple[list[float], ...], n: int | None) -> dict[str, dict[int, Measure]]:
    return {
        name: {seed: Measure(value=value, n=n) for seed, value in enumerate(each)}
        for name, each in zip(CELLS, numbers, strict=True)
    }


@given(claim, seeds, st.sampled_from([None, 50, 10000]))
def test_negation_swaps_holds_and_fails(text: str, numbers: tuple[list[float], ...], n: int | None):
    values = _values(numbers, n)
    assert evaluate(f"not ({text})", values=values).word == FLIPPED[evaluate(text, values=values).word]


@given(claim, seeds)
def test_order_of_seeds_is_irrelevant(text: str, numbers: tuple[list[float], ...]):
    turned = tuple(list(reversed(each)) for each in numbers)
    assert evaluate(text, values=_values(turned, 100)).word == evaluate(text, values=_values(numbers, 100)).word


@given(seeds)
def test_a_claim_and_its_reverse_never_both_hold(numbers: tuple[list[float], ...]):
    values = _values(numbers, 100)
    words = [evaluate(f"a.knn.top1 {sign} b.knn.top1", values=values).word for sign in "<>"]
    assert words.count("holds") <= 1


@given(st.lists(st.floats(1e-3, 100), min_size=2, max_size=8))
def test_differences_of_one_sign_exceed_their_standard_error(differences: list[float]):
    # Why "holds for every seed" is the same bar as one standard error with one seed (the module's docstring).
    assert fmean(differences) >= stdev(differences) / math.sqrt(len(differences)) * (1 - 1e-9)


def test_numbers_of_small_sides_can_be_told_apart():
    assert decide("a.knn.top1 / b.knn.top1 < 0.05", a=3.0, b=95.0, n=None).numbers == "0.032 < 0.05"
    assert decide("a.knn.top1 < b.knn.top1", a=60.94, b=72.0, n=None).numbers == "60.9 < 72.0"
