from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dino.errors import UserError
from dino.evaluation.scoring import neighbours
from dino.evaluation.scoring.neighbours import iterate_neighbours, largest, normalise_


def brute_force(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Stable descending sort of every similarity: equal ones stay in the bank's order."""
    values, order = torch.sort(queries @ bank.t(), dim=1, descending=True, stable=True)
    return values[:, :k], order[:, :k]


def search(queries: Tensor, bank: Tensor, k: int, memory_mib: int = 512) -> tuple[Tensor, Tensor]:
    chunks = list(iterate_neighbours(queries, bank, k=k, memory_mib=memory_mib))
    assert [c[0].start for c in chunks] == [0, *(c[0].stop for c in chunks[:-1])]
    assert chunks[-1][0].stop == len(queries)
    return torch.cat([c[1] for c in chunks]), torch.cat([c[2] for c in chunks])


def whole_numbers(rows: int, width: int, seed: int, high: int = 3) -> Tensor:
    """Vectors whose dot products are exact and often equal."""
    return torch.randint(-high, high + 1, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


@settings(deadline=None, max_examples=60)
@given(
    queries=st.integers(1, 7),
    bank=st.integers(1, 400),
    width=st.integers(1, 5),
    share=st.floats(0, 1),
    slab=st.integers(1, 450),
    rows=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
def test_equals_brute_force_with_many_equal_similarities(
    queries: int, bank: int, width: int, share: float, slab: int, rows: int, seed: int
) -> None:
    k = max(1, round(share * bank))
    q, b = whole_numbers(queries, width, seed), whole_numbers(bank, width, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "SLAB_ROWS", slab)
        patch.setattr(neighbours, "MAX_QUERY_ROWS", {"cpu": rows})
        values, indices = search(q, b, k)
    expected_values, expected_indices = brute_force(q, b, k)
    assert torch.equal(values, expected_values)
    assert torch.equal(indices, expected_indices)


@pytest.mark.parametrize(("width", "k"), [(5000, 7), (5003, 200), (20000, 1), (1000, 999), (64, 4)])
def test_largest_equals_a_full_sort_of_wide_rows(width: int, k: int) -> None:
    similarity = torch.randn(5, width, generator=torch.Generator().manual_seed(width))
    similarity[1] = 0.25  # a collapsed network: all are equal
    similarity[2] = similarity[2].round()  # many ties on the boundary
    similarity[3, -1] = 9.0  # the columns that fill no whole group
    values, columns = largest(similarity, k)
    expected = torch.sort(similarity, dim=1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :k])
    assert torch.equal(columns, expected.indices[:, :k])


def test_a_small_memory_budget_only_makes_smaller_chunks() -> None:
    q, b = whole_numbers(30, 4, 1), whole_numbers(30_000, 4, 2)
    assert len(list(iterate_neighbours(q, b, k=10, memory_mib=1))) > 1
    for small, large in zip(search(q, b, 10, memory_mib=1), search(q, b, 10), strict=True):
        assert torch.equal(small, large)


def test_permuted_bank_finds_the_same_vectors() -> None:
    generator = torch.Generator().manual_seed(3)
    q, b = torch.randn(20, 8, generator=generator), torch.randn(500, 8, generator=generator)
    order = torch.randperm(500, generator=generator)
    _, indices = search(q, b, 15)
    _, permuted = search(q, b[order], 15)
    assert torch.equal(order[permuted], indices)


def test_first_neighbour_of_a_vector_of_the_bank_is_itself() -> None:
    bank = normalise_(torch.randn(300, 16, generator=torch.Generator().manual_seed(4)))
    _, indices = search(bank, bank, 1)
    assert torch.equal(indices[:, 0], torch.arange(300))


def test_normalise_leaves_rows_of_zeros() -> None:
    features = normalise_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert torch.equal(features, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_precision_setting_of_the_process_is_restored() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        for _ in iterate_neighbours(torch.ones(2, 3), torch.ones(4, 3), k=1):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_wrong_k_and_wrong_width_are_named() -> None:
    with pytest.raises(UserError, match="k = 5 .* bank of 4"):
        search(torch.ones(1, 3), torch.ones(4, 3), 5)
    with pytest.raises(UserError, match="2 dimensions .* 3"):
        search(torch.ones(1, 2), torch.ones(4, 3), 1)
