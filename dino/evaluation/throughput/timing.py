"""Images per second of a forward pass, at several batch sizes."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dino.errors import UserError
from dino.log import logger
from dino.running.precision import full_precision_products

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNKS = 10
"""Stretches of equal length that the time of one batch size is cut into; the median of them is reported."""


@dataclass(frozen=True, kw_only=True)
class TimingSettings:
    """How a network is timed."""

    device: torch.device
    image_size: int = 224
    batch_sizes: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 3.0
    """Of each batch size, after the warm-up."""
    precision: str = "fp32"
    """Of weights and images: the whole network is converted, nothing is cast at run time."""
    channels_last: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Timing:
    """One batch size."""

    batch: int
    images_per_second: float
    """Median over the stretches."""
    spread: float
    """Difference of the upper and lower quartile over the median."""
    forwards: int
    peak_device_memory_mib: float | None
    """Largest memory that torch allocated on the GPU, weights included."""


def time_backbone(backbone: nn.Module, settings: TimingSettings) -> tuple[list[Timing], list[str]]:
    """Timings in increasing batch size, and notes on the sizes that did not fit into memory.

    Args:
        backbone: In eval mode; it is converted to the device, precision and layout of ``settings``.
        settings: What to measure.

    Raises:
        UserError: Not even the smallest batch fits, or the network cannot be compiled here.
    """
    dtype = DTYPES[settings.precision]
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    network = backbone.to(device=settings.device, dtype=dtype).to(memory_format=layout)
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if settings.compile else network
    timings: list[Timing] = []
    notes: list[str] = []
    with torch.inference_mode(), _arithmetic(settings.precision):
        for batch in sorted(set(settings.batch_sizes)):
            images = torch.randn(batch, 3, settings.image_size, settings.image_size, device=settings.device)
            images = images.to(dtype=dtype, memory_format=layout)
            try:
                timings.append(_time(forward, images, settings))
            except torch.cuda.OutOfMemoryError:
                notes.append(f"batch {batch} and larger left out: the GPU's memory is too small")
                break
            except Exception as error:
                if not settings.compile:
                    raise
                raise UserError(f"--compile does not work here ({_first_line(error)}): leave it out") from error
            logger.info("batch %d: %.1f im/s", batch, timings[-1].images_per_second)
    if not timings:
        raise UserError("not even the smallest of --batch-sizes fits into the GPU's memory: name smaller ones")
    return timings, notes


def _time(forward: Callable[[Tensor], Tensor], images: Tensor, settings: TimingSettings) -> Timing:
    cuda = settings.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(settings.device)
    forward(images)  # allocates, compiles, chooses kernels
    once = _stretch(forward, images, 1, settings.device)
    # Warm-up of a tenth of the time: clocks and caches settle.
    warm = _stretch(forward, images, max(1, round(0.1 * settings.seconds / once)), settings.device)
    chunk = max(1, round(settings.seconds / CHUNKS / warm))
    stretches: list[float] = []
    began = time.perf_counter()
    # At least three, however slow; then as many as the time allows.
    while len(stretches) < 3 or (len(stretches) < CHUNKS and time.perf_counter() - began < settings.seconds):
        stretches.append(_stretch(forward, images, chunk, settings.device))
    rates = sorted(len(images) / seconds for seconds in stretches)
    median = statistics.median(rates)
    lower, _, upper = statistics.quantiles(rates, n=4, method="inclusive")
    peak = torch.cuda.max_memory_allocated(settings.device) / 2**20 if cuda else None
    return Timing(len(images), median, (upper - lower) / median, chunk * len(stretches), peak)


def _stretch(forward: Callable[[Tensor], Tensor], images: Tensor, count: int, device: torch.device) -> float:
    """Seconds of one of ``count`` forwards in a row, by the clock, between two moments when the device is idle."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        forward(images)
    _wait(device)
    return (time.perf_counter() - start) / count


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """Float32 means float32: without TF32, as on the paper's GPUs."""
    with full_precision_products() if precision == "fp32" else contextlib.nullcontext():
        yield


def headline(timings: Sequence[Timing], wanted: int = 128) -> Timing:
    """The timing at the paper's 128 images, or at the largest batch that ran."""
    exact = [timing for timing in timings if timing.batch == wanted]
    return exact[0] if exact else max(timings, key=lambda timing: timing.batch)
