from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from dino.errors import UserError
from dino.evaluation.scoring.multilabel import average_precision, mean_precision, neighbour_scores, random_precision


def test_average_precision_by_hand() -> None:
    # Hits at ranks 1, 3 and 6 of 6: precision 1, 2/3, 1/2; monotone already.
    scores, labels = np.arange(6, 0, -1), np.array([1, 0, 1, 0, 0, 1])
    area, eleven = average_precision(scores, labels)
    assert area == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    # Recalls 0-0.3 by the first hit, 0.4-0.6 by the second, 0.7-1 by the third.
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 / 2) / 11)


def test_precision_is_made_monotone() -> None:
    # Precision 1/2 at the first hit, 2/3 at the second: the curve takes the larger.
    assert average_precision(np.array([3, 2, 1]), np.array([0, 1, 1])) == pytest.approx((2 / 3, 2 / 3))


def test_images_that_are_not_judged_do_not_count() -> None:
    scores, labels = np.array([9, 8, 7, 6]), np.array([-1, 1, 0, 1])
    assert average_precision(scores, labels) == average_precision(scores[1:], labels[1:])


def test_equal_scores_give_the_share_of_positives_in_any_order() -> None:
    for order in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert average_precision(np.zeros(4), np.array(order)) == pytest.approx((0.25, 0.25))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(count=st.integers(1, 60), levels=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_area_equals_that_of_scikit_learns_curve_made_monotone(count: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, levels, count) / 7, rng.integers(0, 2, count)
    labels[0] = 1
    precision, recall, _ = precision_recall_curve(labels, scores)
    monotone = np.maximum.accumulate(precision)  # recall descends
    expected = -np.sum(np.diff(recall) * monotone[:-1])
    area, eleven = average_precision(scores, labels)
    assert area == pytest.approx(expected)
    measured, at = precision[:-1], recall[:-1]  # the last point of theirs is a convention
    points = [measured[at >= t - 1e-12].max() for t in np.linspace(0, 1, 11)]
    assert eleven == pytest.approx(np.mean(points))


def test_mean_is_over_the_classes_that_are_shown() -> None:
    labels = np.array([[1, 0], [0, 0], [1, -1]])
    scores = np.array([[3.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    mean = mean_precision(scores, labels)
    assert mean.classes == 1
    assert mean.area == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert random_precision(labels) == pytest.approx(100 * 2 / 3)
    with pytest.raises(UserError, match="show none of the classes"):
        mean_precision(scores, np.zeros((3, 2)))


def test_neighbour_scores_are_the_weighted_average_of_the_judged_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (40, 9))
    labels = torch.randint(-1, 2, (40, 3), generator=generator, dtype=torch.int8)
    scores = neighbour_scores(train, labels, test, ks=[7, 3, 40], temperature=0.5)
    assert list(scores) == [3, 7, 40]
    for k, table in scores.items():
        for row, feature in enumerate(test):
            similarity = (train @ feature).tolist()
            nearest = sorted(range(40), key=lambda i: -similarity[i])[:k]
            for column in range(3):
                votes = [(math.exp(similarity[i] / 0.5), int(labels[i, column])) for i in nearest]
                judged = sum(vote for vote, label in votes if label >= 0)
                present = sum(vote for vote, label in votes if label == 1)
                assert table[row, column] == pytest.approx(present / judged if judged else 0.0, rel=1e-4)


def test_chunks_do_not_change_the_scores() -> None:
    generator = torch.Generator().manual_seed(1)
    train, test = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (3000, 700))
    labels = torch.randint(0, 2, (3000, 4), generator=generator, dtype=torch.int8)
    small, large = (
        neighbour_scores(train, labels, test, ks=[20], temperature=0.07, memory_mib=m)[20] for m in (1, 512)
    )
    np.testing.assert_allclose(small, large, rtol=1e-5)
