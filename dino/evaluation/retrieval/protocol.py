"""Image retrieval as a protocol (paper.md, C.5): a backbone and a data set in, a metrics file out.

The headline's queries are whole images: that is what the authors' code does and what the published numbers go with. The
benchmark's own rule, queries cut to their boxes, is reported beside it with the suffix ``_cropped``.

An image that cannot be used is left out and counted in a note: of the database as if it had never been there, of the
queries as if not asked. (The authors fill a file that was cut short with grey instead.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dino.data.folder import listing_digest
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity
from dino.evaluation.document import describe_evaluation
from dino.evaluation.features.kept import FeatureKeeper
from dino.evaluation.features.whole_images import ImageList, ListFeatures, Running, count_skipped
from dino.evaluation.retrieval.dataset import RevisitedSet
from dino.evaluation.retrieval.images import SCALES, Shrink, at_scales, pixel_boxes, smallest_side
from dino.evaluation.scoring.average_precision import SETUPS, Indices, score_setup
from dino.evaluation.scoring.neighbours import normalise_
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
)
from dino.protocols import CODE_VERSION
from dino.running.precision import full_precision_products

if TYPE_CHECKING:
    from dino.models.backbone import Backbone

PUBLISHED = {"rparis6k": (512, True)}
"""Longest side and multi-scale of Table 3 by benchmark (the authors' README and issue 90)."""
PUBLISHED_OTHERWISE = (224, False)


def evaluate_retrieval(
    backbone: Backbone,
    identity: Identity,
    dataset: RevisitedSet,
    *,
    running: Running,
    image_size: int | None = None,
    multiscale: bool | None = None,
    features_dir: Path | None = None,
    started: float | None = None,
) -> MetricsFile:
    """Rank the database for every query and score the rankings.

    Args:
        backbone: In eval mode, on the device.
        identity: Of the backbone.
        dataset: What is searched.
        running: Device, precision, batch size, processes.
        image_size: Pixels that the longest side may have; None is the published setting of the benchmark.
        multiscale: Average the features of three scales; None likewise.
        features_dir: Keep the features there, and use them where they fit.
        started: ``time.perf_counter()`` at the start of the job; default now.

    Raises:
        UserError: The image size is too small, no image of a list can be read, a box is outside its image, or no query
            has a positive.
    """
    started = time.perf_counter() if started is None else started
    published = PUBLISHED.get(dataset.benchmark, PUBLISHED_OTHERWISE)
    longest = published[0] if image_size is None else image_size
    scales = SCALES if (published[1] if multiscale is None else multiscale) else (1.0,)
    smallest = smallest_side(identity.model["patch_size"], scales)
    if longest < smallest:
        raise UserError(f"--image-size {longest} leaves less than a patch at the smallest scale: {smallest} is needed")
    lists, notes = _image_lists(dataset, longest, smallest, scales)
    keeper = FeatureKeeper(
        folder=features_dir,
        identity=identity,
        data_name=dataset.name,
        data_version=dataset.version,
        code_version=CODE_VERSION["retrieval"],
    )
    network = at_scales(backbone, scales)
    features = {images.what: keeper.features(network, images, running) for images in lists}
    notes += [note for images in lists for note in count_skipped(features[images.what], images)]
    bank = features.pop("database")
    measures: dict[str, Measure] = {}
    for what, queries in features.items():
        scored, said = _measures(bank, queries, dataset, running.device)
        suffix = "" if what == "queries" else "_cropped"
        measures.update({f"{name}{suffix}": measure for name, measure in scored.items()})
        notes += [note for note in said if note not in notes]
    return describe_evaluation(
        "retrieval",
        identity,
        metrics=measures,
        chance=None,  # each setup has its own: the metrics chance_easy, chance_medium and chance_hard
        settings={
            "benchmark": dataset.benchmark,
            "image_size": longest,
            "scales": [round(scale, 4) for scale in scales],
            "resize": "longest side, Lanczos, never enlarged",
            "queries": "whole images; with the suffix _cropped cut to their boxes",
            "precision": running.precision,
        },
        data=_data_identity(dataset),
        device=running.device,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


def format_table(document: MetricsFile) -> str:
    """The scores for a person: a line for each setup and kind of query."""
    settings, metrics = document.settings, document.metrics
    lines = [
        f"retrieval on {settings['benchmark']}: {document.data.test} queries, {document.data.train} images, "
        f"longest side {settings['image_size']} px, {len(settings['scales'])} scale(s)",
        f"{'':<16}  {'mAP %':>6}  {'mP@1':>6}  {'mP@5':>6}  {'mP@10':>6}  {'chance':>6}  queries",
    ]
    for suffix, queries in (("", "whole"), ("_cropped", "cropped")):
        for setup in SETUPS:
            names = [f"{kind}_{setup}{suffix}" for kind in ("map", "mp1", "mp5", "mp10", "chance")]
            if names[0] in metrics:
                values = "  ".join(f"{metrics[name].value:>6.2f}" for name in names)
                lines.append(f"{setup:<6}  {queries:<8}  {values}  {metrics[names[0]].n:>7}")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _data_identity(dataset: RevisitedSet) -> DataIdentity:
    values = {
        "name": dataset.name,
        "version": dataset.version,
        "digest": listing_digest(dataset.root, dataset.database_paths),
        "test_digest": listing_digest(dataset.root, dataset.query_paths),
        "truth_digest": dataset.truth_digest,
        "train": len(dataset.truth.database),
        "test": len(dataset.truth.queries),
    }
    return DataIdentity.model_validate(values)


def _image_lists(
    dataset: RevisitedSet, longest: int, smallest: int, scales: tuple[float, ...]
) -> tuple[list[ImageList], list[str]]:
    """The database, the queries and the cropped queries, and notes on them."""
    whole = Shrink(longest, smallest)
    prepared = f"longest side at most {longest}, scales {' '.join(f'{scale:.4f}' for scale in scales)}"
    queries = dataset.query_paths
    lists = [
        ImageList(what="database", root=dataset.root, paths=dataset.database_paths, prepare=whole, prepared=prepared),
        ImageList(what="queries", root=dataset.root, paths=queries, prepare=whole, prepared=prepared),
    ]
    if dataset.truth.boxes is None:
        return lists, ["the ground truth has no boxes (bbx): nothing is reported for cropped queries"]
    boxes, notes = pixel_boxes(dataset.root, queries, dataset.truth.boxes)
    cropped = ImageList(
        what="cropped queries",
        root=dataset.root,
        paths=queries,
        prepare=Shrink(longest, smallest, boxes),
        prepared=f"{prepared}, boxes of {dataset.truth_digest}",
    )
    return [*lists, cropped], notes


def _measures(
    bank: ListFeatures, queries: ListFeatures, dataset: RevisitedSet, device: torch.device
) -> tuple[dict[str, Measure], list[str]]:
    orders = list(_rank(bank, queries, device))
    truth = [dataset.truth.lists[query] for query in queries.indices]
    measures: dict[str, Measure] = {}
    notes = []
    for setup in SETUPS:
        score = score_setup(orders, truth, setup)
        if score is None:
            notes.append(f"{setup}: no query has a positive, so there is no score")
            continue
        values = {"map": score.map, **{f"mp{k}": value for k, value in score.precision.items()}, "chance": score.chance}
        for name, value in values.items():
            measures[f"{name}_{setup}"] = Measure(value=100.0 * value, unit="%", n=score.queries)
        if score.queries < len(truth):
            notes.append(
                f"{setup}: {len(truth) - score.queries} of {len(truth)} queries have no positive and are left out"
            )
    if not measures:
        raise UserError(f"{dataset.root}: no query has a positive among the images that could be read")
    return measures, notes


def _rank(bank: ListFeatures, queries: ListFeatures, device: torch.device) -> Iterator[Indices]:
    """For each query the indices of the database's readable images by falling cosine; equal ones in their order."""
    ours, theirs = (normalise_(torch.from_numpy(each.features).to(device)) for each in (queries, bank))
    with full_precision_products():
        for rows in ours.split(256):
            for similarity in (rows @ theirs.t()).cpu().numpy():
                yield bank.indices[np.argsort(-similarity, kind="stable")]
