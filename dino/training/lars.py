"""LARS, the optimizer of the released ResNet-50 (paper.md, A.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step on each weight tensor is scaled to that tensor's norm.

    For a tensor w with gradient g::

        g <- (g + wd w)                      decay; 1-D tensors: g unchanged
        g <- trust |w| / |g| * g             1-D tensors, and where a norm is 0: g unchanged
        v <- momentum v + g
        w <- w - lr v

    timm's ``Lars`` takes the trust ratio from the norms before the decay is added, so it gives other numbers.

    Args:
        params: Tensors or groups of them; a group's ``lr`` and ``weight_decay`` may change between steps.
        lr: Learning rate.
        momentum: Of the running sum of gradients.
        weight_decay: wd.
        trust_coefficient: trust.

    Example:
        >>> import torch
        >>> from dino.training.lars import LARS
        >>> layer = torch.nn.Linear(4, 4)
        >>> before = layer.weight.detach().clone()
        >>> optimizer = LARS(layer.parameters(), lr=1.0)
        >>> layer(torch.randn(8, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> moved = (layer.weight - before).norm() / before.norm()
        >>> round(moved.item(), 5)  # lr x trust, whatever the gradient's size
        0.001
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every tensor that has a gradient; nothing waits for the device."""
        if closure is not None:
            raise ValueError("LARS takes no closure")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            matrices = [parameter for parameter in moved if parameter.ndim > 1]
            vectors = [parameter for parameter in moved if parameter.ndim <= 1]
            if matrices:
                self._move(matrices, _adapted(matrices, group["weight_decay"], group["trust_coefficient"]), group)
            if vectors:
                self._move(vectors, [_gradient(parameter) for parameter in vectors], group)

    def _move(self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        velocities = []
        for parameter in parameters:
            state = self.state[parameter]
            if "velocity" not in state:
                state["velocity"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            velocities.append(state["velocity"])
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, updates)
        torch._foreach_add_(parameters, velocities, alpha=-group["lr"])


def _adapted(parameters: list[Tensor], weight_decay: float, trust: float) -> list[Tensor]:
    """Decayed gradients scaled by ``trust |w| / |g|``; the gradients themselves stay as they are."""
    updates = torch._foreach_add([_gradient(parameter) for parameter in parameters], parameters, alpha=weight_decay)
    sizes, lengths = torch.stack(torch._foreach_norm(parameters)), torch.stack(torch._foreach_norm(updates))
    usable = (sizes > 0) & (lengths > 0)
    ratios = torch.where(usable, trust * sizes / lengths.where(usable, 1.0), 1.0)
    torch._foreach_mul_(updates, list(ratios.unbind()))
    return list(updates)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
