"""Arithmetic of forward and backward passes: fp32, bf16 or fp16 (paper.md, A.6), and float32 that is nothing less.

Weights, gradients, optimizer and teacher stay in float32; autocast chooses per operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context for forward passes; does nothing for fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPES[precision])


def build_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler: fp16 alone has too small a range for gradients; otherwise it passes everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


@contextlib.contextmanager
def full_precision_products() -> Iterator[None]:
    """Compute float32 in float32, whatever the process allows elsewhere: TF32 changes neighbours."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
