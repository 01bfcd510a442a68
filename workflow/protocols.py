"""The evaluation protocols: their metrics' names and what people call them, and where a run's files stand.

A protocol is one `dino` subcommand; an *evaluation* (`workflow.inputs.evaluations`) is a protocol on one data set. A
capital K or L in a metric's name is any number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Protocol:
    """One evaluation of a checkpoint. ``metrics`` says in a few words what each metric is, with its unit."""

    name: str
    title: str
    metrics: dict[str, str]
    machine: frozenset[str] = field(default=frozenset())
    """Metrics that are the machine's as much as the network's: compared in direction, at any scale."""
    data: bool = True
    """Whether it needs a data set."""

    def knows(self, metric: str) -> bool:
        """Whether the protocol's metrics file can hold ``metric``."""
        return self._pattern(metric) is not None

    def words(self, metric: str) -> str:
        """What people call ``metric``: ``top1_k200`` -> ``top-1 (%), k = 200``; the name itself where it is unknown."""
        found = self._pattern(metric)
        if found is None:
            return metric
        words = self.metrics[found]
        for number in re.findall(r"\d+", metric[len(re.split("[KL]", found)[0]) :]):
            words = re.sub(r"\b[KL]\b", number, words, count=1)
        return words.replace("last 1 blocks", "last block")

    def _pattern(self, metric: str) -> str | None:
        return next((name for name in self.metrics if re.fullmatch(re.sub("[KL]", r"\\d+", name), metric)), None)


_ACCURACY = {"top1": "top-1 (%)", "top5": "top-5 (%)"}
_BLOCKS = "last L blocks"


def _retrieval_metrics() -> dict[str, str]:
    metrics = {}
    for suffix, words in (("", ""), ("_cropped", ", cropped queries")):
        for level in ("easy", "medium", "hard"):
            metrics[f"map_{level}{suffix}"] = f"mAP (%), {level.capitalize()}{words}"
            metrics[f"mpK_{level}{suffix}"] = f"mP@K (%), {level.capitalize()}{words}"
    return metrics


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="knn",
            title="k-NN",
            metrics={
                **_ACCURACY,
                "top1_kK": "top-1 (%), k = K",
                "top5_kK": "top-5 (%), k = K",
                "top1_best_k": "top-1 (%), best k on the test set",
                "map": "mAP (%)",
                "map_kK": "mAP (%), k = K",
            },
        ),
        Protocol(
            name="knn_curve",
            title="k-NN, over training",
            metrics={
                "top1": "teacher at the end, top-1 (%)",
                "student_top1": "student at the end, top-1 (%)",
                "teacher_minus_student": "teacher above student (points), mean over epochs",
                "smallest_gap": "teacher above student (points), smallest",
                "teacher_eK": "teacher, top-1 (%), epoch K",
                "student_eK": "student, top-1 (%), epoch K",
            },
        ),
        Protocol(
            name="linear",
            title="linear",
            metrics={
                **_ACCURACY,
                "top1_best_epoch": "top-1 (%), best epoch on the test set",
                "top1_lL": f"top-1 (%), {_BLOCKS}",
                "dim_lL": f"dimensions, {_BLOCKS}",
                "top1_pool": "top-1 (%), [CLS] and mean patch token",
                "dim_pool": "dimensions, [CLS] and mean patch token",
            },
        ),
        Protocol(
            name="logistic",
            title="logistic regression",
            metrics={**_ACCURACY, "top1_best": "top-1 (%), best penalty on the test set", "map": "mAP (%)"},
        ),
        Protocol(
            name="finetune",
            title="fine-tuning",
            metrics={**_ACCURACY, "resolution": "resolution (px)"},
        ),
        Protocol(name="retrieval", title="retrieval", metrics=_retrieval_metrics()),
        Protocol(
            name="copydetect",
            title="copy detection",
            metrics={"map": "mAP (%)", "dim": "dimensions", "resolution": "resolution (px)"},
        ),
        Protocol(
            name="davis",
            title="video segmentation",
            metrics={
                "jf_mean": "J&F mean (%)",
                "j_mean": "J mean (%)",
                "j_recall": "J recall (%)",
                "j_decay": "J decay (%)",
                "f_mean": "F mean (%)",
                "f_recall": "F recall (%)",
                "f_decay": "F decay (%)",
            },
        ),
        Protocol(
            name="masks",
            title="attention masks",
            metrics={
                "jaccard": "Jaccard (%), 60 % of the mass",
                "jaccard_80": "Jaccard (%), 80 % of the mass",
                "jaccard_instances": "Jaccard (%), instances, 60 % of the mass",
                "jaccard_instances_80": "Jaccard (%), instances, 80 % of the mass",
            },
        ),
        Protocol(
            name="throughput",
            title="",
            metrics={
                "im_per_s": "throughput (im/s)",
                "params": "parameters (M)",
                "tokens": "tokens",
                "dim": "dimensions",
                "blocks": "blocks",
                "heads": "heads",
                "head_dim": "dimensions per head",
                "gflops": "GFLOPs",
                "peak_memory": "inference memory (MiB)",
            },
            machine=frozenset({"im_per_s", "peak_memory"}),
            data=False,
        ),
        Protocol(
            name="pretrain",
            title="pretraining",
            metrics={
                "hours": "time (h)",
                "peak_memory": "peak memory (GiB)",
                "im_per_s": "images per second",
                "loss": "final loss",
                "teacher_entropy": "teacher entropy at the end (nats)",
                "kl": "KL(teacher, student) at the end (nats)",
            },
            machine=frozenset({"hours", "peak_memory", "im_per_s"}),
            data=False,
        ),
    )
}


def run_dir(scale: str, run: str) -> Path:
    """Where a run's files stand, relative to the working directory."""
    return Path("results") / scale / "runs" / run


def metrics_file(scale: str, run: str, evaluation: str) -> Path:
    """The metrics file of one evaluation of one run."""
    return run_dir(scale, run) / "metrics" / f"{evaluation}.json"
