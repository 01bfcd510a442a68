"""Features of frozen backbones (paper.md, C.1): batched, in the data set's order, one process for all splits."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dino.data import EvalImages, ImageSet, resolve_dataset
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity, load_evaluated
from dino.evaluation.features.files import FeatureData, FeatureMeta, Preprocessing, read_meta, write_features
from dino.evaluation.runtime import set_up_torch
from dino.log import logger, track
from dino.protocols import CODE_VERSION
from dino.running.precision import autocast, full_precision_products

if TYPE_CHECKING:
    from dino.data import EvalBatch


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """What is made into features, and how. None leaves a choice to the checkpoint."""

    checkpoint: str
    """A file, or ``random`` for fresh weights."""
    data: str
    """A registered data set's name, or a folder."""
    device: torch.device
    key: str = "teacher"
    config: str | None = None
    arch: str | None = None
    patch_size: int | None = None
    seed: int | None = None
    """Of random weights; None is the configuration's."""
    image_size: int | None = None
    """Pixels of the centre crop."""
    resize: int | None = None
    """Pixels of the short side before it."""
    precision: str = "fp32"
    batch_size: int = 128
    workers: int | None = None


def feature_settings(options: argparse.Namespace) -> FeatureSettings:
    """What the arguments of `add_features_arguments` and `add_runtime_arguments` ask for."""
    return FeatureSettings(
        checkpoint=options.checkpoint,
        data=options.data,
        device=set_up_torch(options.device, options.threads),
        key=options.checkpoint_key,
        config=options.config,
        arch=options.arch,
        patch_size=options.patch_size,
        seed=options.seed,
        image_size=options.image_size,
        resize=options.resize,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
    )


def write_split_features(settings: FeatureSettings, outputs: Sequence[tuple[str, str | Path]]) -> None:
    """Write a feature file for each ``(split, path)``; one that is there and was made from the same is kept.

    Raises:
        UserError: The checkpoint, the data or a setting is wrong, or the network's features are not finite.
    """
    backbone, identity = load_evaluated(
        settings.checkpoint,
        key=settings.key,
        config=settings.config,
        arch=settings.arch,
        patch_size=settings.patch_size,
        seed=settings.seed,
        image_size=settings.image_size,
    )
    preprocessing = choose_preprocessing(
        identity.model, image_size=settings.image_size, resize=settings.resize, precision=settings.precision
    )
    datasets = [resolve_dataset(settings.data, split=split) for split, _ in outputs]
    refuse_equal_splits(settings.data, datasets)
    backbone = backbone.to(settings.device)
    for dataset, (split, path) in zip(datasets, outputs, strict=True):
        data = FeatureData(
            name=dataset.name,
            version=dataset.version,
            digest=dataset.digest,
            split=split,
            classes=dataset.classes,
            images=len(dataset),
        )
        meta = _meta(identity).model_copy(update={"data": data, "preprocessing": preprocessing})
        if _is_there(path, meta):
            logger.info("%s: up to date", path)
            continue
        _write_one(backbone, dataset, path, meta, settings)


def extract_features(backbone: nn.Module, images: EvalImages, *, precision: str = "fp32") -> ExtractedFeatures:
    """The backbone's outputs for all readable images, in order.

    Args:
        backbone: In eval mode, on the device of ``images``.
        images: Batches of (b, 3, H, W).
        precision: Of the forward pass; features are float32 in any case.
    """
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    paths: list[str] = []
    # The copy of one batch's features waits for them; by then the next batch's work is queued on the device.
    waiting: torch.Tensor | None = None
    batches = track(images, what=f"features, {images.dataset.split}", total=math.ceil(len(images) / images.batch_size))
    with torch.inference_mode(), full_precision_products(), autocast(precision, images.device):
        batch: EvalBatch
        for batch in batches:
            features = backbone(batch.images).float()
            if waiting is not None:
                parts.append(waiting.cpu().numpy())
            waiting = features
            labels.append(batch.labels.numpy())
            paths += batch.paths
        if waiting is None:
            raise UserError(f"{images.dataset.root}: none of its {len(images.dataset)} images can be read")
        parts.append(waiting.cpu().numpy())
    return ExtractedFeatures(np.concatenate(parts), np.concatenate(labels), paths)


@dataclass(frozen=True)
class ExtractedFeatures:
    """Features (N, D) float32, labels (N,) int64 and relative paths of the images that could be read."""

    features: np.ndarray
    labels: np.ndarray
    paths: list[str]


def default_resize(image_size: int) -> int:
    """Short side before a crop of ``image_size``: 256 for 224 (paper.md, C.1), and in that proportion.

    Below 160 pixels the crop itself: the images of such sets have that size, and to enlarge them only to cut off their
    borders would lose what they show.
    """
    return image_size if image_size < 160 else round(image_size * 256 / 224)


def _meta(identity: Identity) -> FeatureMeta:
    return FeatureMeta(
        run_id=identity.run_id,
        fingerprint=identity.fingerprint,
        seed=identity.seed,
        code_version=CODE_VERSION["features"],
        checkpoint=identity.checkpoint,
        model=identity.model,
    )


def choose_preprocessing(
    model: dict[str, Any], *, image_size: int | None, resize: int | None, precision: str
) -> Preprocessing:
    """The image size asked for, else the network's own, else 224; and the short side before the crop (paper.md, C.1).

    Raises:
        UserError: The sizes contradict each other or the network's patch.
    """
    image_size = image_size or model.get("img_size") or 224
    resize = resize or default_resize(image_size)
    if resize < image_size:
        raise UserError(f"--resize {resize} is smaller than the crop of {image_size} pixels (--image-size)")
    patch_size = model.get("patch_size") or 1
    if image_size < patch_size:
        raise UserError(f"--image-size {image_size} is smaller than a patch of {patch_size} pixels")
    return Preprocessing(image_size=image_size, resize=resize, precision=precision)


def default_workers(workers: int | None) -> int:
    """Processes that read images: as many as asked for, else one for each other core, at most 8."""
    return min(8, (os.cpu_count() or 2) - 1) if workers is None else workers


def refuse_equal_splits(data: str, datasets: Sequence[ImageSet]) -> None:
    """Splits of one data set must be different images.

    Raises:
        UserError: They are the same.
    """
    digests = {dataset.digest for dataset in datasets}
    if len(datasets) > 1 and len(digests) < len(datasets):
        splits = ", ".join(dataset.split for dataset in datasets)
        raise UserError(
            f"{data}: the splits {splits} are the same images ({datasets[0].root}); give a folder "
            "with a sub-folder for each"
        )


def _is_there(path: str | Path, meta: FeatureMeta) -> bool:
    if not Path(path).is_file():
        return False
    try:
        return read_meta(path).made_from() == meta.made_from()
    except UserError as error:
        logger.info("%s; making it again", error)
        return False


def _write_one(
    backbone: nn.Module, dataset: ImageSet, path: str | Path, meta: FeatureMeta, settings: FeatureSettings
) -> None:
    started = time.perf_counter()
    assert meta.preprocessing is not None
    if settings.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
    images = EvalImages(
        dataset,
        resize=meta.preprocessing.resize,
        crop=meta.preprocessing.image_size,
        batch_size=settings.batch_size,
        workers=default_workers(settings.workers),
        device=settings.device,
    )
    extracted = extract_features(backbone, images, precision=settings.precision)
    broken = int(np.count_nonzero(~np.isfinite(extracted.features).all(axis=1)))
    if broken:
        way_out = "its weights have diverged" if settings.precision == "fp32" else "try --precision fp32"
        raise UserError(
            f"{settings.checkpoint}: the features of {broken} of {len(extracted.features)} images are not finite "
            f"numbers; {way_out}"
        )
    meta = meta.measured(skipped=list(images.skipped), device=settings.device, started=started)
    write_features(
        path,
        features=extracted.features,
        labels=extracted.labels,
        paths=extracted.paths,
        meta=meta,
    )
    count, width = extracted.features.shape
    logger.info("%s: %d features of %d dimensions in %.1f s", path, count, width, meta.seconds)
