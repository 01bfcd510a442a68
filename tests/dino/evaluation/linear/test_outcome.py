from __future__ import annotations

import numpy as np

from dino.evaluation.linear.outcome import Outcome, choose_rate


def test_most_held_out_images_win_and_the_loss_decides_ties() -> None:
    assert choose_rate(np.array([3.0, 5.0, 4.0]), np.array([1.0, 9.0, 1.0])) == 1
    assert choose_rate(np.array([5.0, 5.0, 5.0]), np.array([3.0, 2.0, 4.0])) == 1


def test_the_rate_is_chosen_for_each_feature_without_a_look_at_the_test_images() -> None:
    scores = np.zeros((3, 3, 2, 2))
    scores[:, 0] = [[[50, 70], [10, 20]], [[90, 60], [30, 25]], [[80, 85], [40, 35]]]
    scores[:, 1] = 95
    trials = np.zeros((3, 2, 2))
    trials[0] = [[9, 4], [3, 8]]
    outcome = Outcome("l1", {"l1": 0, "l2": 1, "l4": 1}, scores, trials, trial_images=10, tested=100)
    assert [outcome.choice(name) for name in ("l1", "l2", "l4")] == [0, 1, 1]
    assert [outcome.count(name) for name in ("l1", "l2", "l4")] == [80, 35, 35]
    assert outcome.count("l1", 1) == 95
    assert outcome.best("l1") == (90, 2, 0)
    assert outcome.best("l4") == (40, 3, 0)


def test_one_rate_is_no_choice() -> None:
    outcome = Outcome("l1", {"l1": 0}, np.full((1, 3, 1, 1), 7.0), None, trial_images=0, tested=10)
    assert (outcome.choice("l1"), outcome.count("l1"), outcome.best("l1")) == (0, 7, (7, 1, 0))
