"""Arithmetic of the forward and backward pass: fp32, bf16 or fp16 (protocols A.6).

Weights, gradients, optimizer and teacher stay in float32; autocast chooses per operation.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context for forward passes; does nothing for fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPES[precision])


def build_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler: fp16 alone has too small a range for gradients; otherwise it passes everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def choose_attention(network: nn.Module, precision: str, device: torch.device) -> None:
    """Attention of timm's blocks by plain products where those are faster than the fused kernel.

    That is half precision on a CPU: there the fused kernel's backward takes 2 (197 tokens) to 6 times (37 tokens) as
    long as two batched products and a softmax (torch 2.14, AVX-512 bf16). Everywhere else it stays
    `scaled_dot_product_attention`.
    """
    fused = not (device.type == "cpu" and precision in AUTOCAST_DTYPES)
    module: Any
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
