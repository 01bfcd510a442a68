"""Many linear classifiers trained side by side (paper.md, C.2): features x learning rates.

All classifiers of one feature are the columns of one matrix, so that a step is two matrix products for each feature,
however many learning rates there are. Their update is written out: SGD with momentum 0.9, no weight decay.

Beside each probe a *trial* probe learns from the same batches without the held-out images. The learning rate is chosen
by how trial probes do on those; the probes that are reported have learnt from all training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dino.evaluation.scoring.accuracy import count_right
from dino.running.precision import full_precision_products
from dino.running.random_state import derive_seed

MOMENTUM = 0.9
INITIAL_STD = 0.01
"""Of the weights; biases start at 0 (paper.md, C.2)."""

CHUNK_BYTES = 256 << 20
"""Of logits that exist at one time."""


class ProbeBank:
    """Probes on V features with L learning rates, and as many trial probes where there is a choice to make.

    Args:
        columns: Of the joint feature, for each of V features.
        classes: C.
        lrs: L learning rates of the first epoch.
        seed: Of the initial weights. Probes of one feature start from the same ones.
        device: Where they live.
    """

    def __init__(
        self, columns: Sequence[slice], *, classes: int, lrs: Sequence[float], seed: int, device: torch.device
    ) -> None:
        self.columns, self.classes, self.rates = list(columns), classes, len(lrs)
        self.trials = len(lrs) > 1
        """Whether there are trial probes: one learning rate needs no choice."""
        self._groups = len(lrs) * (1 + self.trials)
        self._lrs = torch.tensor([*lrs] * (1 + self.trials), device=device)
        self.weights: list[Tensor] = []
        """Of each feature (D, G C): G probes of C columns, those of all images first."""
        for index, part in enumerate(self.columns):
            generator = torch.Generator().manual_seed(derive_seed(seed, f"probe {index}"))
            drawn = torch.randn(part.stop - part.start, classes, generator=generator).mul_(INITIAL_STD)
            self.weights.append(drawn.repeat(1, self._groups).to(device))
        self.biases = [torch.zeros(self._groups * classes, device=device) for _ in self.columns]
        self._momenta = [torch.zeros_like(weight) for weight in self.weights]
        self._bias_momenta = [torch.zeros_like(bias) for bias in self.biases]

    @torch.no_grad()
    def step(self, features: Tensor, targets: Tensor, held_out: Tensor, *, factor: float) -> Tensor:
        """One update of every probe.

        Args:
            features: (B, width) float32.
            targets: (B,) class indices.
            held_out: (B,) bool, of images that trial probes do not learn from.
            factor: On the learning rates: the schedule's.

        Returns:
            Mean cross-entropies before the update, (V, L), of the probes of all images.
        """
        batch = len(features)
        shares = torch.full((batch, self._groups), 1.0 / batch, device=features.device)
        if self.trials:
            kept = (~held_out).to(features.dtype)
            shares[:, self.rates :] = (kept / kept.sum().clamp(min=1.0))[:, None]
        losses = torch.zeros(len(self.columns), self.rates, device=features.device)
        lrs = (self._lrs * factor).view(1, -1, 1)
        rows = max(1, CHUNK_BYTES // (4 * self._groups * self.classes))
        with full_precision_products():
            for index, part in enumerate(self.columns):
                weight, momentum = self.weights[index], self._momenta[index]
                bias, bias_momentum = self.biases[index], self._bias_momenta[index]
                keep = MOMENTUM
                for start in range(0, batch, rows):
                    chunk = slice(start, start + rows)
                    inputs = features[chunk, part]
                    logits = torch.addmm(bias, inputs, weight).view(-1, self._groups, self.classes)
                    residual, loss = _residual(logits, targets[chunk], shares[chunk])
                    losses[index] += loss[: self.rates]
                    residual = residual.flatten(1)
                    momentum.addmm_(inputs.t(), residual, beta=keep)
                    bias_momentum.mul_(keep).add_(residual.sum(0))
                    keep = 1.0
                shape = (-1, self._groups, self.classes)
                weight.view(shape).addcmul_(momentum.view(shape), lrs, value=-1.0)
                bias.view(shape).addcmul_(bias_momentum.view(shape), lrs, value=-1.0)
        return losses

    @torch.no_grad()
    def score(self, features: Tensor, targets: Tensor, *, trials: bool = False) -> Tensor:
        """Images that each probe gets right and its summed cross-entropy.

        Args:
            features: (N, width) float32, on any device.
            targets: (N,) class indices.
            trials: Of the trial probes instead.

        Returns:
            (3, V, L) float64: top-1 count, top-5 count, loss.
        """
        device = self.weights[0].device
        total = torch.zeros(3, len(self.columns), self.rates, dtype=torch.float64, device=device)
        # Beside the logits stand their comparison with the right class's and the class numbers.
        rows = max(1, CHUNK_BYTES // (16 * self.rates * self.classes))
        chosen = slice(self.rates * self.classes, None) if trials else slice(0, self.rates * self.classes)
        with full_precision_products():
            for part_features, part_targets in zip(features.split(rows), targets.split(rows), strict=True):
                inputs = part_features.to(device, non_blocking=True)
                wanted = part_targets.to(device, non_blocking=True)
                for index, part in enumerate(self.columns):
                    weight, bias = self.weights[index][:, chosen], self.biases[index][chosen]
                    logits = torch.addmm(bias, inputs[:, part], weight).view(-1, self.rates, self.classes)
                    total[:2, index] += count_right(logits, wanted)
                    losses = F.cross_entropy(
                        logits.transpose(1, 2), wanted[:, None].expand(-1, self.rates), reduction="none"
                    )
                    total[2, index] += losses.sum(0, dtype=torch.float64)
        return total

    def state_dict(self) -> dict[str, Any]:
        """All that decides the further course."""
        return {
            "weights": self.weights,
            "biases": self.biases,
            "momenta": self._momenta,
            "bias_momenta": self._bias_momenta,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`'s."""
        own = self.state_dict()
        for name, tensors in own.items():
            for target, source in zip(tensors, state[name], strict=True):
                target.copy_(source)


def _residual(logits: Tensor, targets: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Derivative of the weighted cross-entropy by the logits (b, G, C), and its sum (G,).

    Args:
        logits: (b, G, C); overwritten.
        targets: (b,) class indices.
        shares: (b, G) weights of the images.
    """
    log_p = torch.log_softmax(logits, dim=2)
    index = targets[:, None, None].expand(-1, logits.shape[1], 1)
    loss = -(log_p.gather(2, index)[:, :, 0] * shares).sum(0)
    residual = log_p.exp_().scatter_add_(2, index, torch.full_like(index, -1, dtype=log_p.dtype))
    return residual.mul_(shares[:, :, None]), loss
