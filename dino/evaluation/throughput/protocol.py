"""Throughput and size of a backbone as a metrics file (paper.md, C.11; Table 1, App. D).

The paper: inference alone, 128 images of 224 x 224 a forward, on one V100; its precision is not stated (assumed:
float32 without TF32). Images per second of other machines compare by their ratios, 1007 : 180 : 44 : 312 : 63 for
ViT-S/16, S/8, S/5, B/16, B/8. Parameters exclude the projection head.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dino.errors import UserError
from dino.evaluation.document import describe_evaluation
from dino.evaluation.throughput.size import Size, measure_size
from dino.evaluation.throughput.timing import Timing, TimingSettings, headline, time_backbone
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
    peak_memory_mib,
)

if TYPE_CHECKING:
    from dino.evaluation.checkpoints import Identity
    from dino.models.backbone import Backbone


def evaluate_throughput(
    backbone: Backbone, identity: Identity, settings: TimingSettings, *, started: float | None = None
) -> MetricsFile:
    """Measure ``backbone``: size by counting, speed and memory by running it.

    Raises:
        UserError: The image is smaller than a patch, or no batch size fits.
    """
    started = time.perf_counter() if started is None else started
    if settings.image_size < (backbone.patch_size or 1):
        raise UserError(f"--image-size {settings.image_size} is smaller than a patch of {backbone.patch_size} pixels")
    size = measure_size(backbone, settings.image_size)
    timings, notes = time_backbone(backbone, settings)
    chosen = headline(timings)
    memory = chosen.peak_device_memory_mib
    if memory is None:
        notes.append("peak_memory is the largest resident memory of the whole process, over all batch sizes")
    if chosen.batch != 128:
        notes.append(f"the headline is at batch {chosen.batch}; the paper's is at 128")
    return describe_evaluation(
        "throughput",
        identity,
        metrics=_metrics(size, timings, chosen, memory=peak_memory_mib() if memory is None else memory),
        settings={
            "image_size": settings.image_size,
            "headline_batch": chosen.batch,
            "precision": settings.precision,
            "channels_last": settings.channels_last,
            "compile": settings.compile,
            "seconds": settings.seconds,
            "threads": torch.get_num_threads(),
            "processor": processor_name(),
            "gflops": "multiply-adds of one image, every token of the last block; gflops_timed: of the timed forward",
            "timings": [
                {"batch": each.batch, "im_per_s": each.images_per_second, "spread": each.spread, "n": each.forwards}
                for each in timings
            ],
        },
        data=DataIdentity(name=None, digest=None),
        device=settings.device,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


def format_table(document: MetricsFile) -> str:
    """Speed and size for a person."""
    values = {name: measure.value for name, measure in document.metrics.items()}
    settings: dict[str, Any] = document.settings
    size = (
        f"{values['params']:.2f} M parameters, {values['dim']:.0f} dimensions, {values['gflops']:.2f} G multiply-adds"
    )
    if "tokens" in values:
        size += f", {values['tokens']:.0f} tokens"
    lines = [f"{settings['model']['arch']} on {document.device} ({settings['precision']}): {size}"]
    for each in settings["timings"]:
        mark = "  headline" if each["batch"] == settings["headline_batch"] else ""
        lines.append(f"batch {each['batch']:>5}  {each['im_per_s']:>10.1f} im/s{mark}")
    lines.append(f"peak memory {values['peak_memory']:.0f} MiB")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def processor_name() -> str:
    """The CPU's name as it says itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _metrics(size: Size, timings: list[Timing], chosen: Timing, *, memory: float) -> dict[str, Measure]:
    metrics = {"im_per_s": Measure(value=chosen.images_per_second, unit="im/s")}
    metrics |= {f"im_per_s_b{each.batch}": Measure(value=each.images_per_second, unit="im/s") for each in timings}
    counts = {
        "tokens": size.tokens,
        "dim": size.dim,
        "blocks": size.blocks,
        "heads": size.heads,
        "head_dim": size.head_dim,
    }
    metrics |= {name: Measure(value=count, unit="count") for name, count in counts.items() if count is not None}
    metrics["params"] = Measure(value=size.parameters / 1e6, unit="M")
    metrics["gflops"] = Measure(value=size.multiply_adds / 1e9, unit="G")
    metrics["gflops_timed"] = Measure(value=size.multiply_adds_timed / 1e9, unit="G")
    metrics["peak_memory"] = Measure(value=round(memory, 1), unit="MiB")
    return metrics
