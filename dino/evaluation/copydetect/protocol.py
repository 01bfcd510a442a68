"""Copy detection as a protocol (paper.md, C.6): a backbone and a data set in, a metrics file out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dino.data.folder import listing_digest
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity
from dino.evaluation.copydetect.dataset import CopydaysSet
from dino.evaluation.copydetect.descriptors import GEM_EXPONENT, Square, descriptor, learn_whitening
from dino.evaluation.document import describe_evaluation
from dino.evaluation.features.kept import FeatureKeeper
from dino.evaluation.features.whole_images import ImageList, ListFeatures, Running, count_skipped
from dino.evaluation.scoring.average_precision import average_precision, chance_ap
from dino.evaluation.scoring.neighbours import iterate_neighbours, normalise_
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
)
from dino.protocols import CODE_VERSION

if TYPE_CHECKING:
    from dino.models.backbone import Backbone

DEPTH = 20
"""Ranks that count; a positive further down counts as not found."""

DATABASE = ("originals", "distractors")

PUBLISHED_SIZES = {8: 320}
"""Side of the square by patch size (Table 4: ViT-B/8); 224 otherwise."""


def evaluate_copydetect(
    backbone: Backbone,
    identity: Identity,
    dataset: CopydaysSet,
    *,
    running: Running,
    image_size: int | None = None,
    features_dir: Path | None = None,
    started: float | None = None,
) -> MetricsFile:
    """Search the originals, among distractors, by their copies.

    Args:
        backbone: In eval mode, on the device.
        identity: Of the backbone.
        dataset: Copies, originals, distractors, whitening images.
        running: Device, precision, batch size, processes.
        image_size: Side of the square in pixels; None is the published one for the patch size.
        features_dir: Keep the features there, and use them where they fit.
        started: ``time.perf_counter()`` at the start of the job; default now.

    Raises:
        UserError: The image size is too small, or no image of a part can be read.
    """
    started = time.perf_counter() if started is None else started
    patch_size = identity.model["patch_size"] or 1
    side = PUBLISHED_SIZES.get(patch_size, 224) if image_size is None else image_size
    if side < patch_size:
        raise UserError(f"--image-size {side} is smaller than a patch of {patch_size} pixels")
    keeper = FeatureKeeper(
        folder=features_dir,
        identity=identity,
        data_name=dataset.name,
        data_version=dataset.version,
        code_version=CODE_VERSION["copydetect"],
    )
    parts, notes = _describe(backbone, dataset, side, keeper, running)
    positives = _positives(dataset, parts["strong copies"], parts["originals"])
    if not any(positives):
        raise UserError(f"{dataset.strong.root}: no copy that can be read has an original that can be read")
    if not all(positives):
        notes.append(f"{sum(not each for each in positives)} copies left out: their originals cannot be read")
    measures, said = _score(parts, positives, running.device)
    notes += said
    counted = [len(each) for each in positives if each]
    database = sum(len(parts[what].indices) for what in DATABASE if what in parts)
    return describe_evaluation(
        "copydetect",
        identity,
        metrics={
            **{name: Measure(value=100.0 * value, unit="%", n=len(counted)) for name, value in measures.items()},
            "dim": Measure(value=parts["originals"].features.shape[1], unit="count"),
            "resolution": Measure(value=side, unit="px"),
        },
        chance=100.0 * float(np.mean([chance_ap(each, database, depth=DEPTH) for each in counted])),
        settings={
            "image_size": side,
            "depth": DEPTH,
            "gem_exponent": GEM_EXPONENT,
            "whitening": "map_raw" in measures,
            "precision": running.precision,
        },
        data=_data_identity(dataset),
        device=running.device,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


def mean_ap(queries: Tensor, database: Tensor, positives: list[list[int]]) -> float:
    """Mean average precision within the first `DEPTH` by cosine, over the queries that have positives; from 0 to 1.

    Args:
        queries: (M, D) descriptors, not normalised.
        database: (N, D) likewise.
        positives: For each query the rows of ``database`` to be found.
    """
    ours, bank = (normalise_(each.clone()) for each in (queries, database))
    aps = []
    for rows, _, found in iterate_neighbours(ours, bank, k=min(DEPTH, len(bank))):
        for wanted, ranking in zip(positives[rows], found.cpu().numpy(), strict=True):
            if wanted:
                aps.append(average_precision(np.flatnonzero(np.isin(ranking, wanted)), positives=len(wanted)))
    return float(np.mean(aps))


def format_table(document: MetricsFile) -> str:
    """The scores for a person."""
    metrics, data = document.metrics, document.data
    lines = [
        f"copy detection on {data.name}: {data.test} copies, {data.train} images in the database, "
        f"{metrics['resolution'].value:.0f} px, {metrics['dim'].value:.0f} dimensions",
        f"mAP {metrics['map'].value:.2f} % (chance {document.chance:.2f} %)",
    ]
    if "map_raw" in metrics:
        lines.append(f"mAP {metrics['map_raw'].value:.2f} % without whitening")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _describe(
    backbone: Backbone, dataset: CopydaysSet, side: int, keeper: FeatureKeeper, running: Running
) -> tuple[dict[str, ListFeatures], list[str]]:
    """Descriptors of the parts that there are, and notes on what is missing."""
    network = descriptor(backbone)
    prepared = f"{side} x {side} bicubic, feature and GeM({GEM_EXPONENT})"
    parts: dict[str, ListFeatures] = {}
    notes: list[str] = []
    for what, part in {
        "strong copies": dataset.strong,
        "originals": dataset.originals,
        "distractors": dataset.distractors,
        "whitening images": dataset.whitening,
    }.items():
        if part is not None:
            images = ImageList(what=what, root=part.root, paths=part.paths, prepare=Square(side), prepared=prepared)
            parts[what] = keeper.features(network, images, running)
            notes += count_skipped(parts[what], images)
    if dataset.whitening is None:
        notes.append("no whitening images: the descriptors are not whitened, unlike the paper's")
    if dataset.distractors is None:
        notes.append("no distractors: the database holds the originals alone; the paper's has 10,000 more images")
    return parts, notes


def _score(
    parts: dict[str, ListFeatures], positives: list[list[int]], device: torch.device
) -> tuple[dict[str, float], list[str]]:
    """The metrics ``map`` and, where there is a whitening, ``map_raw``, and a note on the whitening."""
    descriptors = {what: torch.from_numpy(made.features).to(device) for what, made in parts.items()}
    queries = descriptors["strong copies"]
    database = torch.cat([descriptors[what] for what in DATABASE if what in descriptors])
    raw = mean_ap(queries, database, positives)
    if "whitening images" not in descriptors:
        return {"map": raw}, []
    others = descriptors["whitening images"]
    whitening = learn_whitening(others)
    whitened = mean_ap(whitening(queries), whitening(database), positives)
    notes = []
    if whitening.raised:
        notes.append(
            f"the whitening, learnt from {len(others)} images, has {whitening.raised} of {others.shape[1]} eigenvalues "
            "at its floor"
        )
    return {"map": whitened, "map_raw": raw}, notes


def _positives(dataset: CopydaysSet, copies: ListFeatures, originals: ListFeatures) -> list[list[int]]:
    """`CopydaysSet.positives` of the copies that could be read, as rows of the originals that could."""
    row = {int(index): number for number, index in enumerate(originals.indices)}
    return [[row[index] for index in dataset.positives[copy] if index in row] for copy in copies.indices]


def _data_identity(dataset: CopydaysSet) -> DataIdentity:
    parts = {
        "digest": dataset.originals,
        "test_digest": dataset.strong,
        "distractors_digest": dataset.distractors,
        "whitening_digest": dataset.whitening,
    }
    counts = {
        "train": len(dataset.originals.paths) + (len(dataset.distractors.paths) if dataset.distractors else 0),
        "test": len(dataset.strong.paths),
        "distractors": len(dataset.distractors.paths) if dataset.distractors else 0,
        "whitening": len(dataset.whitening.paths) if dataset.whitening else 0,
    }
    digests = {name: listing_digest(part.root, part.paths) if part else None for name, part in parts.items()}
    return DataIdentity.model_validate({"name": dataset.name, "version": dataset.version, **digests, **counts})
