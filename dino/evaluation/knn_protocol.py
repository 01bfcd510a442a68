"""k-NN as a protocol: two feature sets in, a metrics file out."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from dino.config import CODE_VERSION
from dino.errors import UserError
from dino.evaluation.feature_files import FeatureMeta, FeatureSet
from dino.evaluation.knn import KnnScore, score_knn
from dino.evaluation.metrics import (
    CheckpointIdentity,
    DataIdentity,
    Measure,
    MetricsFile,
    created_now,
    package_versions,
    peak_device_memory_mib,
    peak_memory_mib,
    percent,
)
from dino.evaluation.neighbours import normalise_
from dino.evaluation.runtime import device_name


def evaluate_knn(
    train: FeatureSet,
    test: FeatureSet,
    *,
    ks: Sequence[int],
    headline_k: int,
    temperature: float,
    device: torch.device,
    memory_mib: int = 512,
    started: float | None = None,
) -> MetricsFile:
    """Weighted k-NN of ``test`` by ``train`` (C.1). The features are normalised in place.

    Every k of ``ks`` beyond the training set is left out with a note.

    Args:
        train: The bank.
        test: What is classified.
        ks: Numbers of neighbours; ``headline_k`` is added where it is missing.
        headline_k: The one reported as ``top1`` and ``top5``; 20 in the paper.
        temperature: T of the votes.
        device: Where to compare.
        memory_mib: What a chunk of test images may take beyond the features, in MiB.
        started: ``time.perf_counter()`` at the start of the job; default now.

    Raises:
        UserError: The two sets do not belong together, or the headline's k is beyond the training set.
    """
    started = time.perf_counter() if started is None else started
    images = len(train.labels)
    if headline_k > images:
        raise UserError(
            f"the headline's k = {headline_k} is larger than the training set of {images} images: choose a smaller one "
            "with --headline-k"
        )
    wanted = sorted({*ks, headline_k})
    used = [k for k in wanted if k <= images]
    notes = [f"k = {k} left out: the training set has {images} images" for k in wanted if k > images]
    notes += _check_pair(train, test)
    scores = score_knn(
        normalise_(torch.from_numpy(train.features).to(device)),
        torch.from_numpy(train.labels).to(device),
        normalise_(torch.from_numpy(test.features).to(device)),
        torch.from_numpy(test.labels).to(device),
        ks=used,
        temperature=temperature,
        normalised=True,
        memory_mib=memory_mib,
    )
    best_k = max(used, key=lambda k: scores[k].top1_correct)
    if len(used) > 1:
        notes.append(f"top1_best_k is the best of k = {', '.join(map(str, used))} on the test set itself: k = {best_k}")
    meta = train.meta
    classes = _classes(train, test)
    return MetricsFile(
        protocol="knn",
        metrics=_measures(scores, headline_k, best_k),
        chance=100.0 / classes,
        settings={
            "k": used,
            "headline_k": headline_k,
            "best_k": best_k,
            "temperature": temperature,
            "preprocessing": meta.preprocessing.model_dump() if meta.preprocessing else None,
            "model": meta.model,
        },
        run_id=meta.run_id,
        fingerprint=meta.fingerprint,
        seed=meta.seed,
        code_version=CODE_VERSION["knn"],
        data=DataIdentity(
            name=meta.data.name if meta.data else None,
            digest=meta.data.digest if meta.data else None,
            train=images,
            test=len(test.labels),
            classes=classes,
            test_digest=test.meta.data.digest if test.meta.data else None,
        ),
        checkpoint=meta.checkpoint or CheckpointIdentity(path=None, sha256=None, key=None),
        device=device_name(device),
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_mib=peak_memory_mib(),
        peak_device_memory_mib=peak_device_memory_mib(str(device)),
        created=created_now(),
        notes=notes,
        versions=package_versions(),
    )


def format_table(document: MetricsFile) -> str:
    """The accuracies for a person: a line for each k, the headline marked."""
    settings, metrics = document.settings, document.metrics
    lines = [f"weighted k-NN: {document.data.test} test images, {document.data.train} training images"]
    lines.append(f"{'k':>5}  {'top-1 %':>8}  {'top-5 %':>8}")
    for k in settings["k"]:
        mark = "  headline" if k == settings["headline_k"] else ""
        lines.append(f"{k:>5}  {metrics[f'top1_k{k}'].value:>8.2f}  {metrics[f'top5_k{k}'].value:>8.2f}{mark}")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _measures(scores: dict[int, KnnScore], headline_k: int, best_k: int) -> dict[str, Measure]:
    total = scores[headline_k].total
    measures = {
        "top1": percent(scores[headline_k].top1_correct, total),
        "top5": percent(scores[headline_k].top5_correct, total),
        "top1_best_k": percent(scores[best_k].top1_correct, total),
    }
    for k, score in scores.items():
        measures[f"top1_k{k}"] = percent(score.top1_correct, total)
        measures[f"top5_k{k}"] = percent(score.top5_correct, total)
    return measures


def _classes(train: FeatureSet, test: FeatureSet) -> int:
    """Number of classes: the data set's own, or of a foreign file those that have training images."""
    if train.meta.data is not None:
        return len(train.meta.data.classes)
    return len(torch.from_numpy(train.labels).unique())


def _check_pair(train: FeatureSet, test: FeatureSet) -> list[str]:
    """Notes on a pair of feature sets that may be compared.

    Raises:
        UserError: They come from different networks, preprocessing or data, or have labels without training images.
    """
    if train.features.shape[1] != test.features.shape[1]:
        raise UserError(
            f"training features have {train.features.shape[1]} dimensions and test features {test.features.shape[1]}: "
            "they are not from the same network"
        )
    unseen = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
    if unseen:
        raise UserError(
            f"{len(unseen)} classes of the test features have no training image (the first: "
            f"{_class_name(test, unseen[0])}): both sets must number the same classes alike"
        )
    for what, get in (
        ("checkpoints", lambda meta: meta.checkpoint and (meta.checkpoint.sha256, meta.checkpoint.key)),
        ("networks", lambda meta: meta.model),
        ("runs", lambda meta: meta.fingerprint),
        ("seeds", lambda meta: meta.seed),
        ("preprocessing", lambda meta: meta.preprocessing),
        ("data sets", lambda meta: meta.data and (meta.data.name, meta.data.version)),
        ("lists of classes", lambda meta: meta.data and meta.data.classes),
    ):
        ours, theirs = get(train.meta), get(test.meta)
        if ours is not None and theirs is not None and ours != theirs:
            raise UserError(f"training and test features are of different {what} ({ours} and {theirs})"[:400])
    notes = []
    for split, meta in (("training", train.meta), ("test", test.meta)):
        if meta.checkpoint is None:
            notes.append(f"the {split} features do not say what made them: their identity is unknown")
        if meta.skipped:
            notes.append(_skipped(meta, split))
    if train.meta.data and test.meta.data and train.meta.data.digest == test.meta.data.digest:
        notes.append("training and test features are of the same images")
    return notes


def _skipped(meta: FeatureMeta, split: str) -> str:
    images = meta.data.images if meta.data else 0
    return (
        f"{len(meta.skipped)} of {images} {split} images skipped as unreadable: "
        + ", ".join(meta.skipped[:3])
        + (", ..." if len(meta.skipped) > 3 else "")
    )


def _class_name(features: FeatureSet, label: int) -> str:
    classes = features.meta.data.classes if features.meta.data else []
    return f"'{classes[label]}'" if label < len(classes) else f"label {label}"
