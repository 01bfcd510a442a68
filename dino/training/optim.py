"""The optimizers as DINO uses them: what is decayed, per-tensor clipping, the frozen prototypes (paper.md, A.6)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dino.errors import UserError
from dino.training.lars import LARS

BETAS = (0.9, 0.999)
EPS = 1e-8
MOMENTUM = 0.9
"""Of SGD and LARS."""


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Group 0 is decayed; group 1 (names ending in ``.bias``, and 1-D tensors) is not.

    So norm gains and biases are not decayed, but the CLS token, the position table, the patch kernel and the prototypes
    (their gain too, which is K x 1) are. Parameters without gradient are left out.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (plain if name.endswith(".bias") or parameter.ndim == 1 else decayed).append(parameter)
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(network: nn.Module, name: str = "adamw") -> torch.optim.Optimizer:
    """``adamw``, ``sgd`` or ``lars``; learning rate and decay are set before each step by `set_hyperparameters`.

    The fused forms read and write each tensor once; they exist for CPU and CUDA, and the foreach forms do elsewhere.

    Raises:
        UserError: There is no optimizer of that name.
    """
    groups = parameter_groups(network)
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")
    forms: dict[str, Any] = {"fused": fused, "foreach": None if fused else True}
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS, **forms)
    if name == "sgd":
        return _with_momentum_buffers(torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, **forms))
    if name == "lars":
        return LARS(groups, lr=0.0, momentum=MOMENTUM)
    raise UserError(f"no optimizer '{name}' (known: adamw, sgd, lars)")


def _with_momentum_buffers(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """Give every parameter its momentum buffer now, zeros, which makes the same first step as none would.

    torch's fused SGD makes them at its first step, uninitialised. It keeps what stood in memory where the loss scaler
    skips that step (fp16), and fails at a parameter that joins later (the prototypes, frozen at first).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_hyperparameters(optimizer: torch.optim.Optimizer, *, lr: float, weight_decay: float) -> None:
    """Set this step's values; plain floats, so that nothing waits for the device."""
    for index, group in enumerate(optimizer.param_groups):
        group["lr"] = float(lr)
        if index == 0:
            group["weight_decay"] = float(weight_decay)


@torch.no_grad()
def clip_gradients(network: nn.Module, limit: float) -> None:
    """Clip each parameter tensor's gradient by itself: g <- g * min(1, c / (|g| + 1e-6)); ``limit`` 0 is off.

    Not the global norm (paper.md, A.6). Norms and factors stay on the device.
    """
    if limit <= 0.0:
        return
    gradients = _gradients(network)
    factors = torch._foreach_norm(gradients)
    torch._foreach_add_(factors, 1e-6)
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, limit)
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(gradients, factors)


@torch.no_grad()
def gradient_norm(network: nn.Module) -> Tensor:
    """L2 norm over all gradients together, a scalar on the device."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(_gradients(network))))


@torch.no_grad()
def parameters_are_finite(network: nn.Module) -> bool:
    """Whether every parameter is finite; waits for the device."""
    norms = torch._foreach_norm([parameter.detach() for parameter in network.parameters()])
    return bool(torch.isfinite(torch.stack(norms)).all())


def drop_last_layer_gradients(network: nn.Module) -> None:
    """Keep the prototypes as they are this step: no gradient, so no decay, and Adam's state is not started.

    Which parameters: those whose name contains ``last_layer``, nothing else (lightly #1586 froze the wrong ones).
    """
    for name, parameter in network.named_parameters():
        if "last_layer" in name:
            parameter.grad = None


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
