"""``metrics/pretrain.json``: what a finished run says of itself (Table 8's time and memory, Fig. 7's end)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from dino.config import RunConfig, fingerprint, run_id
from dino.metrics import (
    CheckpointIdentity,
    DataIdentity,
    Measure,
    MetricsFile,
    created_now,
    package_versions,
    write_metrics,
)
from dino.protocols import CODE_VERSION, PROTOCOLS
from dino.running.journal import Record, read
from dino.running.progress import STATUS_NAME

REPORT = Path("metrics") / "pretrain.json"
LAST = ("loss", "teacher_entropy", "kl")
"""Quantities of the journal whose last logged value is reported."""


def write_report(run_dir: Path, config: RunConfig, *, device: str, digest: str | None = None) -> Path:
    """Write the metrics file of the finished run in ``run_dir`` from its status and its journal.

    Args:
        run_dir: The run.
        config: Its configuration.
        device: What it ended on.
        digest: Of the training images, where they are at hand.
    """
    seconds = json.loads((run_dir / STATUS_NAME).read_text(encoding="utf-8"))["seconds"]
    records = read(run_dir)
    peak = max((record.metrics.get("peak_memory_mib", 0.0) for record in records), default=0.0)
    document = MetricsFile(
        protocol="pretrain",
        metrics={"hours": Measure(value=seconds / 3600, unit="h"), **_of_journal(records, peak)},
        chance=None,
        settings={
            "epochs": config.epochs,
            "batch_size": config.batch_size,
            "steps": records[-1].step if records else 0,
        },
        run_id=run_id(config),
        fingerprint=fingerprint(config),
        seed=config.seed,
        code_version=CODE_VERSION["pretrain"],
        data=DataIdentity(name=config.dataset, digest=digest),
        checkpoint=CheckpointIdentity(path=str(run_dir / "checkpoint.pth"), sha256=None, key=None),
        device=device,
        seconds=seconds,
        peak_memory_mib=peak,
        created=created_now(),
        notes=["time over all processes of the run; memory of rank 0: of tensors on a GPU, of the process on a CPU"],
        versions=package_versions(),
    )
    write_metrics(run_dir / REPORT, document)
    return run_dir / REPORT


def _of_journal(records: list[Record], peak_mib: float) -> dict[str, Measure]:
    """Last values, the largest memory and the usual speed; nothing for random weights, which have no journal."""
    if not records:
        return {}
    last = records[-1].metrics
    speeds = [record.metrics["images_per_second"] for record in records if "images_per_second" in record.metrics]
    declared = PROTOCOLS["pretrain"].metrics
    measures = {name: Measure(value=last[name], unit=declared[name].unit) for name in LAST if name in last}
    measures["peak_memory"] = Measure(value=peak_mib / 1024, unit="GiB")
    if speeds:
        measures["im_per_s"] = Measure(value=statistics.median(speeds), unit="im/s")
    return measures
