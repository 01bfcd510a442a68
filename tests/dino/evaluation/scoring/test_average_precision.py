from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino.evaluation.retrieval.dataset import read_ground_truth
from dino.evaluation.scoring.average_precision import SETUPS, average_precision, chance_ap, score_setup
from tests.golden import make_retrieval

GOLDEN = json.loads(Path(make_retrieval.__file__).with_name("retrieval.json").read_text())


def orders_of(similarity: np.ndarray) -> list[np.ndarray]:
    return list(np.argsort(-similarity, axis=0, kind="stable").T)


@pytest.mark.parametrize("golden", GOLDEN["scores"])
def test_scores_are_the_authors(golden: dict[str, Any]) -> None:
    similarity, truth = make_retrieval.scoring_case(golden["case"])
    for setup in SETUPS:
        score = score_setup(orders_of(similarity), truth, setup)
        assert score is not None
        assert [score.map, *score.precision.values()] == pytest.approx(golden["scores"][setup], abs=1e-12)
    assert score.queries < len(truth)  # some have no positive


@pytest.mark.reference
def test_scores_on_the_true_ground_truth(reference_data: Path) -> None:
    reference = json.loads((reference_data / "revisitop" / "reference.json").read_text())
    truth = read_ground_truth(reference_data / "revisitop" / "gnd_roxford5k.pkl")
    similarity = np.random.RandomState(0).standard_normal((len(truth.database), len(truth.queries)))
    for query, lists in enumerate(truth.lists):
        for name, shift in (("easy", 2.0), ("hard", 1.0), ("junk", 1.5)):
            similarity[lists[name], query] += shift
    for letter, setup in (("E", "easy"), ("M", "medium"), ("H", "hard")):
        mean, precisions, empty = reference["roxford5k"][letter]
        score = score_setup(orders_of(similarity), truth.lists, setup)
        assert score is not None
        assert 100 * score.map == pytest.approx(mean, abs=1e-4)
        assert [100 * value for value in score.precision.values()] == pytest.approx(precisions, abs=1e-4)
        assert len(truth.queries) - score.queries == empty


@pytest.mark.parametrize(
    ("ranks", "positives", "expected"),
    [
        ([0], 1, 1.0),
        ([1], 1, 0.25),  # between precision 0 and 1/2
        ([0, 1, 2], 3, 1.0),
        ([0, 2], 2, (1 + 1 + 1 / 2 + 2 / 3) / 4),
        ([], 2, 0.0),
        ([0], 2, 0.5),
    ],
)
def test_average_precision_by_hand(ranks: list[int], positives: int, expected: float) -> None:
    assert average_precision(np.array(ranks, dtype=np.int64), positives=positives) == pytest.approx(expected)


def lists(easy: list[int], hard: list[int], junk: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(each, dtype=np.int64) for name, each in (("easy", easy), ("hard", hard), ("junk", junk))}


def test_junk_is_taken_out_before_ranks_are_counted() -> None:
    truth = [lists(easy=[3], hard=[5], junk=[0, 1])]
    order = [np.array([0, 1, 5, 3, 2, 4])]
    easy, medium, hard = (score_setup(order, truth, setup) for setup in SETUPS)
    assert easy is not None
    assert medium is not None
    assert hard is not None
    assert (easy.map, medium.map, hard.map) == (1.0, 1.0, 1.0)  # 5 is junk of easy, 3 of hard
    # precision at 5 stops at the last positive: 2 of 2
    assert medium.precision == {1: 1.0, 5: 1.0, 10: 1.0}


def test_an_image_outside_the_ranking_is_as_if_it_had_never_been_there() -> None:
    truth = [lists(easy=[0, 1], hard=[2], junk=[])]
    without = score_setup([np.array([3, 1, 2])], truth, "medium")
    smaller = score_setup([np.array([0, 1, 2])], [lists(easy=[1], hard=[2], junk=[])], "medium")
    assert without == smaller


def test_no_positives_at_all_is_no_score() -> None:
    assert score_setup([np.array([0, 1])], [lists([], [], [1])], "medium") is None


@pytest.mark.parametrize(
    ("images", "positives", "depth"), [(5, 1, None), (6, 3, None), (6, 2, 4), (1, 1, None), (5, 5, 2)]
)
def test_chance_is_the_mean_over_all_orders(images: int, positives: int, depth: int | None) -> None:
    values = [
        average_precision(np.array([rank for rank in places if depth is None or rank < depth]), positives=positives)
        for places in itertools.combinations(range(images), positives)
    ]
    assert chance_ap(positives, images, depth=depth) == pytest.approx(np.mean(values))
