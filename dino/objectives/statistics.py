"""What is logged to see a collapse: Fig. 7's entropy and KL where there are softmaxes, else the outputs' spread."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def entropy_and_kl(targets: Tensor, cross_entropy: Tensor) -> dict[str, Tensor]:
    """h(P_t) and KL(P_t || P_s) in nats, averaged over the pairs (protocols B.8).

    Every q stands in as many pairs, so the mean over pairs of CE = h + KL splits exactly.

    Args:
        targets: (..., K), rows that sum to one.
        cross_entropy: The mean over pairs.
    """
    entropy = torch.special.entr(targets).sum(-1).mean()
    return {"teacher_entropy": entropy, "kl": cross_entropy.detach() - entropy}


@torch.no_grad()
def output_std(outputs: Tensor) -> dict[str, Tensor]:
    """How far unit vectors (n, D) are spread: sqrt(sum over dimensions of their variance) = sqrt(1 - |mean|^2).

    That is the standard deviation of a dimension times sqrt(D) (root mean square over dimensions): 1 where the outputs
    fill the sphere evenly, 0 where all are the same vector, which is how an objective without softmax collapses. Of
    this rank's micro-batch: n vectors that are independent and even have sqrt(1 - 1 / n).
    """
    centred = outputs.float() - outputs.float().mean(0, keepdim=True)
    return {"output_std": centred.square().sum(-1).mean().sqrt()}
