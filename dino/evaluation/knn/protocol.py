"""k-NN as a protocol: two feature sets in, a metrics file out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dino.errors import UserError
from dino.evaluation.document import describe_pair
from dino.evaluation.features.pairs import FeaturePair
from dino.evaluation.scoring.multilabel import (
    MeanPrecision,
    mean_precision,
    neighbour_scores,
    random_precision,
    undefined_note,
)
from dino.evaluation.scoring.neighbours import normalise_
from dino.evaluation.scoring.votes import KnnScore, score_knn
from dino.metrics import Measure, MetricsFile, percent


def evaluate_knn(
    pair: FeaturePair,
    *,
    ks: Sequence[int],
    headline_k: int,
    temperature: float,
    device: torch.device,
    memory_mib: int = 512,
) -> MetricsFile:
    """Weighted k-NN of the test images by the training images (paper.md, C.1). The features are normalised in place.

    Every k of ``ks`` beyond the training set is left out with a note.

    Args:
        pair: Training features (the bank) and test features.
        ks: Numbers of neighbours; ``headline_k`` is added where it is missing.
        headline_k: The one reported as ``top1`` and ``top5``, or ``map``; 20 in the paper.
        temperature: T of the votes.
        device: Where to compare.
        memory_mib: What a chunk of test images may take beyond the features, in MiB.

    Raises:
        UserError: The headline's k is beyond the training set, or the temperature is not positive.
    """
    images = len(pair.train.labels)
    if headline_k > images:
        raise UserError(
            f"the headline's k = {headline_k} is larger than the training set of {images} images: choose a smaller one "
            "with --headline-k"
        )
    if not temperature > 0:
        raise UserError(f"the temperature of k-NN's votes must be positive (got {temperature:g})")
    wanted = sorted({*ks, headline_k})
    used = [k for k in wanted if k <= images]
    notes = [f"k = {k} left out: the training set has {images} images" for k in wanted if k > images]
    bank = normalise_(torch.from_numpy(pair.train.features).to(device))
    labels = torch.from_numpy(pair.train.labels).to(device)
    queries = normalise_(torch.from_numpy(pair.test.features).to(device))
    if pair.train.multi_label:
        tables = neighbour_scores(bank, labels, queries, ks=used, temperature=temperature, memory_mib=memory_mib)
        precision = {k: mean_precision(table, pair.test.labels) for k, table in tables.items()}
        best_k = max(used, key=lambda k: precision[k].area)
        metrics, what = _mean_precisions(precision, headline_k, best_k), "map_best_k"
        chance = random_precision(pair.test.labels)
        notes += undefined_note(pair.test.labels)
    else:
        targets = torch.from_numpy(pair.test.labels).to(device)
        scores = score_knn(
            bank,
            labels,
            queries,
            targets,
            ks=used,
            temperature=temperature,
            normalised=True,
            memory_mib=memory_mib,
        )
        best_k = max(used, key=lambda k: scores[k].top1_correct)
        metrics, what = _accuracies(scores, headline_k, best_k), "top1_best_k"
        chance = 100.0 / pair.classes
    if len(used) > 1:
        notes.append(f"{what} is the best of k = {', '.join(map(str, used))} on the test set itself: k = {best_k}")
    settings = {"k": used, "headline_k": headline_k, "best_k": best_k, "temperature": temperature}
    return describe_pair("knn", pair, metrics, chance=chance, settings=settings, device=device, notes=notes)


def format_table(document: MetricsFile) -> str:
    """The accuracies for a person: a line for each k, the headline marked."""
    settings, metrics = document.settings, document.metrics
    several = "map" in metrics
    names, titles = (
        (("map", "map_11point"), ("mAP %", "11-point")) if several else (("top1", "top5"), ("top-1 %", "top-5 %"))
    )
    lines = [f"weighted k-NN: {document.data.test} test images, {document.data.train} training images"]
    lines.append(f"{'k':>5}  {titles[0]:>8}  {titles[1]:>8}")
    for k in settings["k"]:
        mark = "  headline" if k == settings["headline_k"] else ""
        lines.append(
            f"{k:>5}  {metrics[f'{names[0]}_k{k}'].value:>8.2f}  {metrics[f'{names[1]}_k{k}'].value:>8.2f}{mark}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _accuracies(scores: dict[int, KnnScore], headline_k: int, best_k: int) -> dict[str, Measure]:
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


def _mean_precisions(scores: dict[int, MeanPrecision], headline_k: int, best_k: int) -> dict[str, Measure]:
    measures = {
        "map": Measure(value=scores[headline_k].area, unit="%"),
        "map_11point": Measure(value=scores[headline_k].eleven_point, unit="%"),
        "map_best_k": Measure(value=scores[best_k].area, unit="%"),
    }
    for k, score in scores.items():
        measures[f"map_k{k}"] = Measure(value=score.area, unit="%")
        measures[f"map_11point_k{k}"] = Measure(value=score.eleven_point, unit="%")
    return measures
