"""What is logged to see a collapse: the outputs' spread, and Fig. 7's entropy and KL where there are softmaxes."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def spread(outputs: Tensor) -> dict[str, Tensor]:
    """``output_std``: how far unit vectors (n, D) are spread, sqrt(sum over dimensions of their variance).

    That is sqrt(1 - |mean|^2), the standard deviation of a dimension times sqrt(D) (root mean square over dimensions):
    1 where the outputs fill the sphere evenly, 0 where all are the same vector, which is what every collapse comes to.
    Of this rank's micro-batch: n vectors that are independent and even have sqrt(1 - 1 / n).
    """
    centred = outputs.float() - outputs.float().mean(0, keepdim=True)
    return {"output_std": centred.square().sum(-1).mean().sqrt()}


@torch.no_grad()
def of_distributions(targets: Tensor, cross_entropy: Tensor) -> dict[str, Tensor]:
    """``teacher_entropy`` h(P_t) and ``kl`` KL(P_t || P_s), in nats, averaged over the pairs (paper.md, B.8); and
    ``output_std`` of the square roots of the probabilities, which are unit vectors (their distance is Hellinger's).

    Every q stands in as many pairs, so the mean over pairs of CE = h + KL splits exactly.

    Args:
        targets: (n, K), rows that sum to one.
        cross_entropy: The mean over pairs.
    """
    entropy = torch.special.entr(targets).sum(-1).mean()
    return {"teacher_entropy": entropy, "kl": cross_entropy.detach() - entropy, **spread(targets.sqrt())}
