"""Label propagation (paper.md, C.7): each patch takes the labels of the most similar patches near it in earlier frames.

The target's grid is cut into tiles. A tile is compared, in one matrix product, with the rectangle of every context
frame that its patches' windows reach; what lies outside a patch's own window is masked. So no N x N matrix is made, and
the work grows with the window, not with the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

TILE_SIDE = {"cpu": 8, "cuda": 16}
"""Patches. Smaller tiles compare fewer patches in vain; larger ones make fewer and larger products."""


@dataclass(frozen=True)
class PropagationSettings:
    """The authors' values (paper.md, C.7); the paper's text names Jabri et al., whose values are others."""

    context: int = 7
    """Previous frames, beside the first one."""
    radius: int = 12
    """Patches to each side of the same place; 0 is the whole frame."""
    topk: int = 5
    """Most similar context patches that are followed, over all context frames."""
    temperature: float = 0.1


@dataclass(frozen=True)
class _Tile:
    """A rectangle of target patches and the rectangle of context patches that their windows reach."""

    rows: slice
    columns: slice
    context_rows: slice
    strip: int
    """Which of the strips of context columns."""
    outside: Tensor
    """(rows, columns, context rows, 1, context columns): 0 inside a patch's window, -inf outside."""


class Propagator:
    """The propagation through one video.

    Features and labels of the context are kept in vertical strips, one for each column of tiles, with the rows
    outermost: what a tile is compared with is then a contiguous matrix, over all context frames at once.
    """

    def __init__(self, first_features: Tensor, first_labels: Tensor, settings: PropagationSettings) -> None:
        """Start with the first frame.

        Args:
            first_features: (h, w, D), rows of norm 1.
            first_labels: (h, w, C), the first mask one-hot.
            settings: Of the protocol.
        """
        self.settings = settings
        self._height, self._width, self._channels = first_labels.shape
        radius = settings.radius or max(self._height, self._width)
        tiles = _spans(self._width, TILE_SIDE.get(first_features.device.type, 8))
        self._strips = [slice(max(s.start - radius, 0), min(s.stop + radius, self._width)) for s in tiles]
        self._tiles = [
            _make_tile(rows, columns, index, self._strips[index], self._height, radius, first_features.device)
            for index, columns in enumerate(tiles)
            for rows in _spans(self._height, TILE_SIDE.get(first_features.device.type, 8))
        ]
        # Of each strip: (h, context frames, strip's columns, D or C). Frame 0 is the first, the others are a ring.
        self._features = [first_features[:, None, strip].contiguous() for strip in self._strips]
        self._labels = [first_labels[:, None, strip].contiguous() for strip in self._strips]
        self._steps = 0

    def step(self, features: Tensor) -> Tensor:
        """Soft labels (h, w, C) of the next frame from its features (h, w, D); it joins the context."""
        labels = torch.empty(self._height, self._width, self._channels, device=features.device)
        for tile in self._tiles:
            labels[tile.rows, tile.columns] = self._propagate(features[tile.rows, tile.columns], tile)
        self._remember(features, labels)
        return labels

    def _propagate(self, targets: Tensor, tile: _Tile) -> Tensor:
        """Labels (a, b, C) of the target patches (a, b, D) of a tile."""
        sources = self._features[tile.strip][tile.context_rows]
        source_labels = self._labels[tile.strip][tile.context_rows].flatten(0, 2)
        rows, frames, columns, width = sources.shape
        similarity = targets.reshape(-1, width) @ sources.view(-1, width).t()  # (a b, rows frames columns)
        similarity.view(*targets.shape[:2], rows, frames, columns).add_(tile.outside)
        count = similarity.shape[1]
        topk = min(self.settings.topk, count)
        values, indices = similarity.topk(min(topk + 1, count), dim=1)
        # exp(s / T) over its largest: the same proportions at every T, without overflow.
        weights = torch.exp((values - values[:, :1]) / self.settings.temperature)
        kept = weights[:, :topk]
        result = torch.einsum("pk,pkc->pc", kept / kept.sum(1, keepdim=True), source_labels[indices[:, :topk]])
        if count > topk:
            # Whatever equals the k-th largest is kept too, as it is by the authors' comparison with it.
            tied = (weights[:, topk] == kept[:, -1]) & (kept[:, -1] > 0)
            if bool(tied.any()):
                all_weights = torch.exp((similarity[tied] - values[tied, :1]) / self.settings.temperature)
                all_weights *= all_weights >= kept[tied, -1:]
                result[tied] = (all_weights / all_weights.sum(1, keepdim=True)) @ source_labels
        return result.view(*targets.shape[:2], self._channels)

    def _remember(self, features: Tensor, labels: Tensor) -> None:
        """Put a frame into the context, over the oldest where it is full."""
        context = self.settings.context
        if context == 0:
            return
        for index, strip in enumerate(self._strips):
            for kept, new in ((self._features, features), (self._labels, labels)):
                if self._steps < context:
                    kept[index] = torch.cat([kept[index], new[:, None, strip]], dim=1)
                else:
                    kept[index][:, 1 + self._steps % context] = new[:, strip]
        self._steps += 1


def _make_tile(
    rows: slice, columns: slice, strip: int, strip_columns: slice, height: int, radius: int, device: torch.device
) -> _Tile:
    context_rows = slice(max(rows.start - radius, 0), min(rows.stop + radius, height))
    far_rows = _distances(rows, context_rows, device) > radius
    far_columns = _distances(columns, strip_columns, device) > radius
    far = far_rows[:, None, :, None] | far_columns[None, :, None, :]
    outside = torch.zeros(far.shape, device=device).masked_fill_(far, -torch.inf)
    return _Tile(rows, columns, context_rows, strip, outside[:, :, :, None, :])


def _distances(targets: slice, sources: slice, device: torch.device) -> Tensor:
    """|target - source| for all pairs: (targets, sources)."""
    a = torch.arange(targets.start, targets.stop, device=device)
    b = torch.arange(sources.start, sources.stop, device=device)
    return (a[:, None] - b).abs()


def _spans(length: int, side: int) -> list[slice]:
    """Nearly equal parts of ``range(length)``, at most ``side`` long."""
    count = -(-length // side)
    edges = [length * part // count for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
