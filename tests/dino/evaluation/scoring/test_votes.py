from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.scoring.votes import KnnScore, score_knn, target_ranks

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
Split = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(train: int, test: int, *, classes: int = 4, width: int = 6, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = [torch.randint(0, classes, (count,), generator=generator) for count in (train, test)]
    features = [centres[each] + 1.5 * torch.randn(len(each), width, generator=generator) for each in labels]
    return features[0], labels[0], features[1], labels[1]


def brute_force(split: Split, k: int, temperature: float) -> tuple[float, float]:
    """paper.md, C.1 image by image, in Python numbers."""
    train, train_labels, test, test_labels = split
    train, test = (torch.nn.functional.normalize(f.double(), dim=1) for f in (train, test))
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    right = [0, 0]
    for feature, target in zip(test, test_labels.tolist(), strict=True):
        similarity = (train @ feature).tolist()
        votes = [0.0] * classes
        for i in sorted(range(len(similarity)), key=lambda i: -similarity[i])[:k]:
            votes[int(train_labels[i])] += math.exp(similarity[i] / temperature)
        ranking = sorted(range(classes), key=lambda c: -votes[c])
        right[0] += target in ranking[:1]
        right[1] += target in ranking[: min(5, k)]
    return 100 * right[0] / len(test), 100 * right[1] / len(test)


def golden_module() -> Any:
    sys.path.insert(0, str(GOLDEN))
    try:
        import make_knn  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(GOLDEN))
    return make_knn


@pytest.mark.parametrize("index", range(4))
def test_equals_the_authors_values(index: int) -> None:
    golden = json.loads((GOLDEN / "knn.json").read_text())["results"][index]
    ks = [int(k) for k in golden["accuracy"]]
    split = golden_module().draw(golden["case"])
    scores = score_knn(*split, ks=ks, temperature=golden["case"]["temperature"], memory_mib=1)
    for k in ks:
        assert [scores[k].top1, scores[k].top5] == pytest.approx(golden["accuracy"][str(k)], abs=1e-9), f"k = {k}"


@settings(deadline=None, max_examples=25, derandomize=True)  # float rounding must not decide a near tie
@given(
    train=st.integers(5, 60),
    test=st.integers(1, 30),
    classes=st.integers(1, 9),
    temperature=st.floats(0.01, 2),
    seed=st.integers(0, 2**31),
)
def test_equals_brute_force(train: int, test: int, classes: int, temperature: float, seed: int) -> None:
    split = draw(train, test, classes=classes, seed=seed)
    ks = sorted({1, 2, 5, train // 2, train})
    scores = score_knn(*split, ks=ks, temperature=temperature)
    for k in ks:
        assert (scores[k].top1, scores[k].top5) == pytest.approx(brute_force(split, k, temperature))


@pytest.mark.parametrize("test", [1, 2, 99, 100, 101])
def test_every_test_image_counts_once_whatever_their_number(test: int) -> None:
    split = draw(300, test)
    score = score_knn(*split, ks=[10])[10]
    assert score.total == test
    assert score.top1 == pytest.approx(brute_force(split, 10, 0.07)[0])


def test_one_pass_over_all_k_equals_a_pass_for_each() -> None:
    split = draw(250, 80, classes=7)
    together = score_knn(*split, ks=[200, 10, 100, 20, 10])
    assert list(together) == [10, 20, 100, 200]
    assert together == {k: score_knn(*split, ks=[k])[k] for k in (10, 20, 100, 200)}


def test_chunk_size_does_not_change_the_result() -> None:
    split = draw(20_000, 60, classes=11)
    assert score_knn(*split, ks=[1, 20], memory_mib=1) == score_knn(*split, ks=[1, 20], memory_mib=1024)


def test_order_of_the_training_images_does_not_change_the_result() -> None:
    train, train_labels, test, test_labels = draw(200, 50, classes=5)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    permuted = score_knn(train[order], train_labels[order], test, test_labels, ks=[1, 9])
    assert permuted == score_knn(train, train_labels, test, test_labels, ks=[1, 9])


def test_one_neighbour_is_the_nearest() -> None:
    train, train_labels, test, test_labels = draw(200, 50, classes=5)
    similarity = torch.nn.functional.cosine_similarity(test[:, None], train[None], dim=2)
    expected = (train_labels[similarity.argmax(1)] == test_labels).sum().item()
    assert score_knn(train, train_labels, test, test_labels, ks=[1])[1] == KnnScore(expected, expected, 50)


def test_length_of_features_does_not_matter_and_they_stay_unchanged() -> None:
    train, train_labels, test, test_labels = draw(100, 30)
    before = train.clone()
    scaled = score_knn(train * 7, train_labels, test * 0.01, test_labels, ks=[5])
    assert scaled == score_knn(train, train_labels, test, test_labels, ks=[5])
    assert torch.equal(train, before)


def test_collapsed_features_give_the_share_of_the_first_neighbours_majority() -> None:
    labels = torch.tensor([1, 1, 0, 2, 2, 2, 2])
    scores = score_knn(torch.ones(7, 4), labels, torch.ones(6, 4), torch.tensor([0, 1, 1, 2, 2, 2]), ks=[3, 7])
    assert scores[3].top1_correct == 2  # equal similarities: the first three of the bank, 1 1 0
    assert scores[7].top1_correct == 3


def test_equal_votes_go_to_the_lower_class_and_unvoted_classes_follow_in_order() -> None:
    similarities, labels = torch.zeros(7, 2), torch.tensor([[4, 2]]).expand(7, -1)
    ranks = target_ranks(similarities, labels, torch.arange(7), ks=[2], temperature=0.07, classes=7)
    assert ranks.tolist() == [[2, 3, 0, 4, 1, 5, 6]]


def test_votes_do_not_overflow_at_a_small_temperature() -> None:
    split = draw(100, 40)
    assert score_knn(*split, ks=[20], temperature=1e-5)[20].top1 == score_knn(*split, ks=[1])[1].top1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": [10, 60]}, "k = 60 is larger than the training set of 50"),
        ({"ks": [0]}, "k must be at least 1"),
        ({"ks": []}, "k must be at least 1"),
        ({"temperature": 0.0}, "temperature"),
        ({"test_labels": torch.zeros(3, dtype=torch.int64)}, "test set has features of shape"),
        ({"train_labels": torch.full((50,), -1)}, "negative label"),
        ({"test_features": torch.ones(0, 6), "test_labels": torch.ones(0, dtype=torch.int64)}, "test set is empty"),
        ({"test_features": torch.ones(20, 5)}, "5 dimensions"),
    ],
)
def test_wrong_input_is_one_clear_sentence(change: dict[str, Any], message: str) -> None:
    names = ("train_features", "train_labels", "test_features", "test_labels")
    arguments = {**dict(zip(names, draw(50, 20), strict=True)), "ks": [5], **change}
    with pytest.raises(UserError, match=message):
        score_knn(**arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu() -> None:
    split = draw(5000, 300, classes=20)
    on_gpu = score_knn(*(each.cuda() for each in split), ks=[1, 20, 200])
    assert on_gpu == score_knn(*split, ks=[1, 20, 200])
