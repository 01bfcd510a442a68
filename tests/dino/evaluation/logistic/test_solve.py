from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from dino.evaluation.logistic import solve as module
from dino.evaluation.logistic.lbfgs import Minimiser
from dino.evaluation.logistic.solve import loss_and_gradient, solve
from dino.evaluation.scoring.accuracy import count_right

LAMBDAS = [0.01, 0.1, 1.0]


def draw(
    count: int = 300, width: int = 16, classes: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Overlapping classes on one side of the sphere, as features of a network are."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(count) % classes
    features = centres[labels] + 1.5 * torch.randn(count, width, generator=generator, dtype=torch.float64) + 1
    return torch.nn.functional.normalize(features, dim=1).to(dtype), labels


def scikit_learn(features: Tensor, labels: Any, strength: float) -> LogisticRegression:
    """C = 1 / lambda: the conventions under test."""
    solver = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    return solver.fit(features.double().numpy(), np.asarray(labels))


@pytest.mark.parametrize("strength", LAMBDAS)
def test_weights_are_scikit_learns(strength: float) -> None:
    features, labels = draw()
    (solution,) = solve(features, labels, classes=5, lambdas=[strength], tolerance=1e-11)
    expected = scikit_learn(features, labels, strength).coef_
    assert solution.converged
    np.testing.assert_allclose(solution.weight.numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_several_lambdas_share_the_passes_and_change_nothing() -> None:
    features, labels = draw()
    together = solve(features, labels, classes=5, lambdas=LAMBDAS)
    for strength, solution in zip(LAMBDAS, together, strict=True):
        (alone,) = solve(features, labels, classes=5, lambdas=[strength])
        torch.testing.assert_close(solution.weight, alone.weight)
        assert solution.evaluations == alone.evaluations


def test_default_tolerance_in_float32_is_close_to_the_minimum() -> None:
    exact, labels = draw(2000, 32, 10)
    for fine, solution in zip(
        solve(exact, labels, classes=10, lambdas=LAMBDAS, tolerance=1e-10),
        solve(exact.float(), labels, classes=10, lambdas=LAMBDAS),
        strict=True,
    ):
        assert solution.converged
        assert fine.objective <= solution.objective + 1e-7
        assert solution.objective - fine.objective < 1e-4 * fine.objective
        answers = [(exact @ each.weight.double().t()).argmax(1) for each in (fine, solution)]
        assert (answers[0] == answers[1]).double().mean() > 0.998


def test_gap_bounds_the_distance_from_the_minimum() -> None:
    features, labels = draw()
    minimum = solve(features, labels, classes=5, lambdas=[0.1], tolerance=1e-12)[0].objective
    for passes in (3, 6, 12):
        (solution,) = solve(features, labels, classes=5, lambdas=[0.1], max_passes=passes)
        assert not solution.converged
        assert solution.evaluations == passes
        assert 0 < solution.objective - minimum <= solution.gap * solution.objective


def test_lambda_is_divided_by_the_number_of_images() -> None:
    # Every image twice is the same problem with a mean loss of the same weights, but half the regularisation an image.
    features, labels = draw()
    (twice,) = solve(features.repeat(2, 1), labels.repeat(2), classes=5, lambdas=[0.2], tolerance=1e-10)
    (once,) = solve(features, labels, classes=5, lambdas=[0.1], tolerance=1e-10)
    torch.testing.assert_close(twice.weight, once.weight, atol=1e-3, rtol=1e-3)
    assert twice.objective == pytest.approx(once.objective)


def test_tables_of_labels_are_one_problem_a_class_and_leave_out_what_is_not_judged() -> None:
    features, _ = draw(classes=3)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 2, (len(features), 3), generator=generator).to(torch.int8)
    (solution,) = solve(features, labels, classes=3, lambdas=[0.1], tolerance=1e-11)
    for column in range(3):
        judged = labels[:, column] >= 0
        # Their binary objective has the same C whatever the number of images.
        expected = scikit_learn(features[judged], labels[judged, column], 0.1).coef_[0]
        np.testing.assert_allclose(solution.weight[column].numpy(), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("table", [False, True])
def test_gradient_is_that_of_autograd_and_chunks_change_nothing(table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = draw(101)
    if table:
        labels = torch.randint(-1, 2, (101, 5), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    weights = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    logits = torch.einsum("nd,acd->anc", features, weights)
    if table:
        terms = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels.clamp(min=0).double().expand(2, -1, -1), reduction="none"
        )
        expected = (terms * (labels >= 0)).sum((1, 2)) / 101
    else:
        expected = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels.expand(2, -1), reduction="none"
        ).mean(1)
    expected.sum().backward()
    for chunk in (module.CHUNK_BYTES, 8 * 2 * 5 * 7):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
        loss, gradient = loss_and_gradient(features, labels, weights.detach())
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(gradient, weights.grad)


def test_minimiser_solves_an_ill_conditioned_quadratic() -> None:
    scale = torch.logspace(-4, 0, 30, dtype=torch.float64)
    target = torch.ones(30, dtype=torch.float64)
    minimiser = Minimiser(torch.zeros(30, dtype=torch.float64), smoothness=1.0)
    for _ in range(400):
        error = minimiser.point - target
        minimiser.tell(0.5 * float(scale @ error.square()), scale * error)
    assert minimiser.best is not None
    torch.testing.assert_close(minimiser.best[0], target, atol=1e-3, rtol=0)


def test_equal_logits_go_to_the_lower_class() -> None:
    counts = count_right(torch.zeros(8, 1, 8), torch.arange(8))
    assert counts.tolist() == [[1], [5]]
    logits = torch.tensor([[[0.0, 3.0, 1.0]], [[2.0, 0.0, 1.0]]])
    assert count_right(logits, torch.tensor([1, 2])).tolist() == [[1], [2]]
