"""Classes in the plane: the mean feature of each, reduced by PCA, embedded by t-SNE (paper.md, C.10; Fig. 11).

The paper: means of the 50 validation images of each class, PCA to 30 dimensions, t-SNE with perplexity 20, learning
rate 200 and 5000 iterations. Assumptions, where it is silent: the features are not normalised; scikit-learn's t-SNE
(whose learning rates are a quarter of other programs') starts from a random layout, as it did by default in 2021.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dino.errors import UserError
from dino.evaluation.features.files import FeatureSet

MINIMUM = 4
"""Classes below which a layout in the plane says nothing."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """PCA and t-SNE; the defaults are the paper's."""

    pca: int = 30
    perplexity: float = 20.0
    learning_rate: float = 200.0
    iterations: int = 5000
    seed: int = 0


@dataclass(frozen=True)
class Embedding:
    """Classes in the plane."""

    names: list[str]
    points: NDArray[np.float64]
    """(C, 2)."""
    images: list[int]
    """Behind each mean."""
    kl_divergence: float
    """t-SNE's loss at the end, nats."""
    iterations: int
    """Done: it stops early where nothing moves any more."""
    pca: int
    """Dimensions kept."""
    perplexity: float
    notes: list[str]


def class_means(features: FeatureSet) -> tuple[NDArray[np.float64], list[int], NDArray[np.int64]]:
    """Mean feature (C, D), number of images and class index of every class that has images, by class index."""
    if features.multi_label:
        members = features.labels == 1
    else:
        members = features.labels[:, None] == np.arange(int(features.labels.max()) + 1)
    counts = members.sum(axis=0)
    present = np.flatnonzero(counts)
    sums = members[:, present].astype(np.float32).T @ features.features
    return sums.astype(np.float64) / counts[present, None], counts[present].tolist(), present


def embed_classes(features: FeatureSet, settings: EmbeddingSettings) -> Embedding:
    """The classes of ``features`` in the plane.

    A perplexity too large for the number of classes is lowered to a third of the other classes, with a note.

    Raises:
        UserError: Too few classes, or all means are the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    means, images, present = class_means(features)
    count = len(means)
    if count < MINIMUM:
        raise UserError(f"the features are of {count} classes: t-SNE of class means needs at least {MINIMUM}")
    if float(np.ptp(means, axis=0).max()) <= 1e-6 * float(np.abs(means).max()):
        raise UserError("the mean features of all classes are the same: the network has collapsed to a constant")
    notes = []
    names = class_names(features, present)
    known = len(features.meta.data.classes) if features.meta.data else count
    if known > count:
        notes.append(f"{known - count} of {known} classes have no image")
    dimensions = min(settings.pca, count, means.shape[1])
    if dimensions < settings.pca:
        notes.append(f"PCA to {dimensions} dimensions: {count} means of {means.shape[1]} have no more")
    perplexity = settings.perplexity
    if perplexity > (count - 1) / 3:
        perplexity = (count - 1) / 3
        notes.append(f"perplexity {perplexity:.3g} instead of {settings.perplexity:g}: there are {count} classes")
    reduced = PCA(n_components=dimensions, random_state=settings.seed).fit_transform(means)
    tsne = TSNE(
        perplexity=perplexity,
        learning_rate=settings.learning_rate,
        max_iter=settings.iterations,
        init="random",
        random_state=settings.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        points = tsne.fit_transform(reduced)
    return Embedding(
        names=names,
        points=points.astype(np.float64),
        images=images,
        kl_divergence=float(tsne.kl_divergence_),
        iterations=int(tsne.n_iter_),
        pca=dimensions,
        perplexity=perplexity,
        notes=notes,
    )


def class_names(features: FeatureSet, present: NDArray[np.int64]) -> list[str]:
    """What the classes are called: the folders' names, ImageNet's in words, or ``class 7`` where the file has none."""
    classes: Sequence[str] = features.meta.data.classes if features.meta.data else []
    names = [classes[index] if index < len(classes) else f"class {index}" for index in present.tolist()]
    if any(re.fullmatch(r"n\d{8}", name) for name in names):
        names = _wordnet_names(names)
    return [name.replace("_", " ") for name in names]


def _wordnet_names(names: list[str]) -> list[str]:
    """ImageNet's folders (n01440764) in words, by timm's list; the first of several synonyms."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    known = set(info.label_names())
    return [info.label_name_to_description(name).split(",")[0] if name in known else name for name in names]
