"""Exact nearest neighbours by dot product, in chunks that bound memory.

Each row of similarities is folded into groups, and only the groups with the largest maxima are searched for the
largest entries: a full `topk` over a bank of 100,000 costs several times as much. Nothing is approximate. Equal
similarities are ordered by the index in the bank, so that the result is defined for repeated vectors too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dino.errors import UserError
from dino.running.precision import full_precision_products

# One slab of the bank is compared at a time; larger ones mean fewer merges, smaller ones more query rows in a chunk.
SLAB_ROWS = 131_072
# Matrix products of more query rows than this are no faster, on CPU or on GPU.
MAX_QUERY_ROWS = {"cpu": 1024, "cuda": 8192}


def normalise_(features: Tensor) -> Tensor:
    """Divide each row of (N, D) by its L2 norm, in place; rows of zeros stay zeros."""
    for rows in features.split(65_536):
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(1e-12))
    return features


def iterate_neighbours(
    queries: Tensor, bank: Tensor, *, k: int, memory_mib: int = 512, reserve_bytes_per_query: int = 0
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield ``(rows, similarities, indices)`` for consecutive chunks of the queries.

    Args:
        queries: (M, D) float32.
        bank: (N, D) float32 on the same device.
        k: Neighbours for each query, at most N.
        memory_mib: What a chunk may take beyond the queries and the bank, in MiB.
        reserve_bytes_per_query: What the caller itself needs for each query of a chunk.

    Yields:
        The slice of the queries, their similarities (B, k) in descending order, and the bank's indices (B, k); equal
        similarities come in the order of the bank.

    Raises:
        UserError: ``k`` exceeds the bank, or the widths differ.
    """
    if queries.shape[1] != bank.shape[1]:
        raise UserError(f"features of {queries.shape[1]} dimensions cannot be compared with {bank.shape[1]}")
    if not 1 <= k <= len(bank):
        raise UserError(f"k = {k} neighbours are asked of a bank of {len(bank)} vectors")
    slab_rows = min(len(bank), SLAB_ROWS)
    step = _query_rows(slab_rows, k, memory_mib, reserve_bytes_per_query, queries.device.type)
    buffer = torch.empty(min(step, len(queries)), slab_rows, device=queries.device)
    with full_precision_products():
        for start in range(0, len(queries), step):
            chunk = queries[start : start + step]
            best: tuple[Tensor, Tensor] | None = None
            for offset in range(0, len(bank), slab_rows):
                slab = bank[offset : offset + slab_rows]
                similarity = buffer[: len(chunk), : len(slab)]
                torch.mm(chunk, slab.t(), out=similarity)
                values, columns = largest(similarity, min(k, len(slab)))
                best = (values, columns) if best is None else _merge(best, (values, columns + offset), k)
            if best is not None:
                yield slice(start, start + len(chunk)), *best


def largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest entries of each row of (B, M), descending, and their columns; equal entries in column order."""
    candidates, columns, peaks = _candidates(similarity, k)
    values, at = candidates.topk(k, dim=1, sorted=False)
    chosen = at if columns is None else columns.gather(1, at)
    # `topk` takes any of several equal entries. They matter where one of them is left out: more than k entries, or
    # entries in more than k groups, are as large as the smallest that was taken.
    least = values.amin(1, keepdim=True)
    unclear = (candidates >= least).sum(1) > k
    if peaks is not None:
        unclear |= (peaks >= least).sum(1) > k
    for rows in unclear.nonzero().flatten().split(64):
        chosen[rows] = _lowest_columns(similarity[rows], least[rows], k)
    chosen = torch.sort(chosen, dim=1).values
    values, order = torch.sort(similarity.gather(1, chosen), dim=1, descending=True, stable=True)
    return values, chosen.gather(1, order)


def _fold(width: int, k: int) -> int:
    """Entries in a group: searching M/g maxima and then k groups of g entries is cheapest at g = sqrt(M/k)."""
    return math.isqrt(width // k)


def _candidates(similarity: Tensor, k: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Entries of each row that hold its k largest, their columns, and the maxima of the groups.

    Group c holds the columns c, c + W, c + 2W, ...: the reduction then runs over whole contiguous rows.
    """
    rows, width = similarity.shape
    size = _fold(width, k)
    if size < 4:  # folding saves nothing
        return similarity, None, None
    groups = width // size
    folded = similarity[:, : groups * size].unflatten(1, (size, groups))
    peaks = folded.amax(1)
    chosen = peaks.topk(k, dim=1, sorted=False).indices[:, None, :]
    candidates = [folded.gather(2, chosen.expand(rows, size, k)).flatten(1), similarity[:, groups * size :]]
    starts = torch.arange(0, groups * size, groups, device=similarity.device)
    rest = torch.arange(groups * size, width, device=similarity.device)
    columns = [(chosen + starts[None, :, None]).flatten(1), rest.expand(rows, -1)]
    return torch.cat(candidates, 1), torch.cat(columns, 1), peaks


def _lowest_columns(similarity: Tensor, least: Tensor, k: int) -> Tensor:
    """Columns (B, k) of all entries above ``least`` (B, 1), filled up with the first that equal it."""
    above = similarity > least
    equal = similarity == least
    missing = k - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= missing))
    return keep.nonzero()[:, 1].view(len(similarity), k)


def _merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k largest of two descending lists of (values, indices); at equal values those of ``first`` come first."""
    values, order = torch.sort(torch.cat([first[0], second[0]], 1), dim=1, descending=True, stable=True)
    return values[:, :k], torch.cat([first[1], second[1]], 1).gather(1, order[:, :k])


def _query_rows(width: int, k: int, memory_mib: int, reserve: int, device: str) -> int:
    """Queries in a chunk: similarities, the searched groups (values, columns, masks), two sorted lists of k."""
    size = _fold(width, k)
    searched = width if size < 4 else width // size + size * k
    bytes_per_query = 4 * width + 24 * searched + 64 * k + reserve
    return max(1, min(MAX_QUERY_ROWS.get(device, 1024), memory_mib * 2**20 // bytes_per_query))
