"""Right answers of linear classifiers."""

from __future__ import annotations

import torch
from torch import Tensor


def count_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Images whose class comes first, and is among the first five.

    At equal logits the class of lower index comes first, so that a collapsed network is not right by accident.

    Args:
        logits: (B, G, C) of G classifiers.
        targets: (B,) class indices.

    Returns:
        (2, G) int64: top-1 and top-5 counts.
    """
    index = targets[:, None, None].expand(-1, logits.shape[1], 1)
    own = logits.gather(2, index)
    lower = torch.arange(logits.shape[2], device=logits.device) < index
    ranks = ((logits > own) | ((logits == own) & lower)).sum(2)
    return torch.stack([(ranks < 1).sum(0), (ranks < 5).sum(0)])
