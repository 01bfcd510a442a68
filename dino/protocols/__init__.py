"""The one table of protocols: each evaluation of a checkpoint, its metrics, what it reads and its version.

The command line, the checks of studies and scales, the rules, their resources and their costs are made from it. Imports
neither torch nor pydantic: ``dino --help`` reads it.
"""

from __future__ import annotations

from dino.protocols.protocol import Metric, Protocol, Stage

_TOP1, _TOP5 = Metric("top-1 (%)"), Metric("top-5 (%)")
_MAP, _ELEVEN_POINT = Metric("mAP (%)"), Metric("mAP (%), 11-point")
_DIMENSIONS = Metric("dimensions", unit="count", better="neither")
_RESOLUTION = Metric("resolution (px)", unit="px", better="neither")
_BLOCKS = "last L blocks"


def _retrieval_metrics() -> dict[str, Metric]:
    metrics = {}
    for suffix, words in (("", ""), ("_cropped", ", cropped queries")):
        for level in ("easy", "medium", "hard"):
            shown = f"{level.capitalize()}{words}"
            metrics[f"map_{level}{suffix}"] = Metric(f"mAP (%), {shown}")
            metrics[f"mpK_{level}{suffix}"] = Metric(f"mP@K (%), {shown}")
            metrics[f"chance_{level}{suffix}"] = Metric(f"mAP of a random order (%), {shown}", better="neither")
    return metrics


def _davis_metrics() -> dict[str, Metric]:
    metrics = {"jf_mean": Metric("J&F mean (%)")}
    for name in "jf":
        metrics[f"{name}_mean"] = Metric(f"{name.upper()} mean (%)")
        metrics[f"{name}_recall"] = Metric(f"{name.upper()} recall (%)")
        metrics[f"{name}_decay"] = Metric(f"{name.upper()} decay (%)", better="lower")
    return metrics


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="knn",
            title="k-NN",
            help="weighted k-NN of a checkpoint or of two feature files",
            reads="features",
            settings="KnnSettings",
            metrics={
                "top1": _TOP1,
                "top5": _TOP5,
                "top1_kK": Metric("top-1 (%), k = K"),
                "top5_kK": Metric("top-5 (%), k = K"),
                "top1_best_k": Metric("top-1 (%), best k on the test set"),
                "map": _MAP,
                "map_11point": _ELEVEN_POINT,
                "map_kK": Metric("mAP (%), k = K"),
                "map_11point_kK": Metric("mAP (%), 11-point, k = K"),
                "map_best_k": Metric("mAP (%), best k on the test set"),
            },
        ),
        Protocol(
            name="knn_curve",
            title="k-NN, over training",
            help="k-NN of the teacher and the student over a pretraining, from its snapshots",
            reads="snapshots",
            settings="KnnCurveSettings",
            metrics={
                "top1": Metric("teacher at the end, top-1 (%)"),
                "student_top1": Metric("student at the end, top-1 (%)"),
                "teacher_minus_student": Metric("teacher above student (points), mean over epochs", unit="points"),
                "smallest_gap": Metric("teacher above student (points), smallest", unit="points"),
                "teacher_eK": Metric("teacher, top-1 (%), epoch K"),
                "student_eK": Metric("student, top-1 (%), epoch K"),
            },
        ),
        Protocol(
            name="linear",
            title="linear",
            help="linear probes on a frozen backbone, a grid of learning rates in one pass",
            reads="images",
            settings="LinearSettings",
            metrics={
                "top1": _TOP1,
                "top5": _TOP5,
                "top1_best_epoch": Metric("top-1 (%), best epoch on the test set"),
                "top1_lL": Metric(f"top-1 (%), {_BLOCKS}"),
                "dim_lL": Metric(f"dimensions, {_BLOCKS}", unit="count", better="neither"),
                "top1_pool": Metric("top-1 (%), [CLS] and mean patch token"),
                "dim_pool": Metric("dimensions, [CLS] and mean patch token", unit="count", better="neither"),
            },
        ),
        Protocol(
            name="logistic",
            title="logistic regression",
            help="logistic regression on frozen features, also of a few labels",
            reads="features",
            settings="LogisticSettings",
            metrics={
                "top1": _TOP1,
                "top5": _TOP5,
                "top1_best": Metric("top-1 (%), best penalty on the test set"),
                "map": _MAP,
                "map_11point": _ELEVEN_POINT,
                "map_best": Metric("mAP (%), best penalty on the test set"),
            },
        ),
        Protocol(
            name="rank",
            title="rank",
            help="how many dimensions frozen features use: RankMe, effective rank, variance of two components",
            reads="features",
            resources_of="knn",
            metrics={
                "rankme": Metric("RankMe", unit="count"),
                "effective_rank": Metric("effective rank", unit="count"),
                "variance_top2": Metric("variance of the first two components (%)", better="lower"),
                "dim": _DIMENSIONS,
            },
        ),
        Protocol(
            name="finetune",
            title="fine-tuning",
            help="fine-tune a checkpoint on a labelled data set; resumes by itself",
            reads="images",
            settings="FinetuneSettings",
            metrics={
                "top1": _TOP1,
                "top5": _TOP5,
                "top1_ema": Metric("top-1 (%), moving average of the weights"),
                "resolution": _RESOLUTION,
            },
        ),
        Protocol(
            name="retrieval",
            title="retrieval",
            help="image retrieval on Revisited Oxford and Paris",
            reads="images",
            settings="RetrievalSettings",
            metrics=_retrieval_metrics(),
        ),
        Protocol(
            name="copydetect",
            title="copy detection",
            help="copy detection on Copydays",
            reads="images",
            settings="CopydetectSettings",
            metrics={
                "map": _MAP,
                "map_raw": Metric("mAP (%), without whitening"),
                "dim": _DIMENSIONS,
                "resolution": _RESOLUTION,
            },
        ),
        Protocol(
            name="davis",
            title="video segmentation",
            help="video object segmentation on DAVIS 2017, and its J and F",
            reads="images",
            settings="DavisSettings",
            metrics=_davis_metrics(),
        ),
        Protocol(
            name="masks",
            title="attention masks",
            help="Jaccard of attention masks on VOC12 objects",
            reads="images",
            settings="MasksSettings",
            metrics={
                "jaccard": Metric("Jaccard (%), 60 % of the mass"),
                "jaccard_80": Metric("Jaccard (%), 80 % of the mass"),
                "jaccard_instances": Metric("Jaccard (%), instances, 60 % of the mass"),
                "jaccard_instances_80": Metric("Jaccard (%), instances, 80 % of the mass"),
                "jaccard_single_head": Metric("Jaccard (%), one head for all objects, 60 % of the mass"),
            },
        ),
        Protocol(
            name="throughput",
            title="",
            help="images per second, parameters, tokens and memory of a backbone",
            reads="network",
            settings="ThroughputSettings",
            metrics={
                "im_per_s": Metric("throughput (im/s)", unit="im/s", machine=True),
                "im_per_s_bK": Metric("throughput (im/s), batch K", unit="im/s", machine=True),
                "params": Metric("parameters (M)", unit="M", better="neither"),
                "tokens": Metric("tokens", unit="count", better="neither"),
                "dim": _DIMENSIONS,
                "blocks": Metric("blocks", unit="count", better="neither"),
                "heads": Metric("heads", unit="count", better="neither"),
                "head_dim": Metric("dimensions per head", unit="count", better="neither"),
                "gflops": Metric("GFLOPs", unit="G", better="neither"),
                "gflops_timed": Metric("GFLOPs at the timed size", unit="G", better="neither"),
                "peak_memory": Metric("inference memory (MiB)", unit="MiB", better="lower", machine=True),
            },
        ),
        Protocol(
            name="pretrain",
            title="pretraining",
            help="pretrain one run from its config.yaml or a recipe; resumes by itself",
            reads="pretraining",
            metrics={
                "hours": Metric("time (h)", unit="h", better="lower", machine=True),
                "peak_memory": Metric("peak memory (GiB)", unit="GiB", better="lower", machine=True),
                "im_per_s": Metric("images per second", unit="im/s", machine=True),
                "loss": Metric("final loss", unit="", better="neither"),
                "teacher_entropy": Metric("teacher entropy at the end (nats)", unit="nats", better="neither"),
                "kl": Metric("KL(teacher, student) at the end (nats)", unit="nats", better="neither"),
            },
        ),
    )
}

FEATURES = Stage(
    name="features", help="write a checkpoint's features of a data set as .npz", settings="FeatureSettings"
)
"""Features of a data set, once for every protocol that reads them."""

PICTURES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="attention",
            help="draw a checkpoint's self-attention on images or a video",
            settings="AttentionSettings",
        ),
        Stage(name="tsne", help="t-SNE of class means", settings="TsneSettings"),
    )
}
"""What is drawn of a network and not measured."""

STAGES: dict[str, Stage] = {**PROTOCOLS, FEATURES.name: FEATURES, **PICTURES}

CODE_VERSION: dict[str, int] = {name: stage.code_version for name, stage in STAGES.items()}
"""Part of each stage's fingerprint."""
