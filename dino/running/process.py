"""The process as a whole: settings that make training faster without changing what is computed."""

from __future__ import annotations

import ctypes
import platform

import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def configure_process(device: torch.device) -> None:
    """Set up this process for training on ``device``.

    On CUDA, float32 products may use TF32, as they did by default in the authors' torch 1.7 ("fp32" in the released
    arguments means fp16 off), and cuDNN may try its algorithms.

    On a CPU, denormals count as zero (targets far from their mode are denormal, and arithmetic on them is slow), and
    freed memory is kept (`keep_freed_memory`).
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_flush_denormal(True)
        keep_freed_memory()


def keep_freed_memory(keep: bool = True) -> bool:
    """Tell glibc to reuse large blocks instead of giving them back to the system at once.

    A step frees and takes the same blocks again; of 32 MiB and more (prototypes, logits) each would be mapped and
    zeroed page by page anew, which costs more than what is computed in it. Returns whether it could be set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    if keep:
        settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 16 << 20}
    else:
        settings = {_M_MMAP_MAX: 65536, _M_TRIM_THRESHOLD: 128 << 10, _M_TOP_PAD: 128 << 10}
    return all(mallopt(key, value) == 1 for key, value in settings.items())
