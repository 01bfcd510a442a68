"""The features of training and test images as an evaluation takes them: read or made, and checked."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino.errors import UserError
from dino.evaluation.features.files import FeatureMeta, FeatureSet, default_name, read_features
from dino.evaluation.features.subset import Subset


@dataclass
class FeaturePair:
    """Training and test features of one network and one data set."""

    train: FeatureSet
    """The subset's, where there is one."""
    test: FeatureSet
    subset: dict[str, Any] | None
    """What a metrics file says of the subset; None for all training images."""
    notes: list[str]
    started: float
    """``time.perf_counter()`` at the start of the job."""

    @property
    def classes(self) -> int:
        """Number of classes: the data set's own, or of a foreign file those that have training images."""
        if self.train.multi_label:
            return int(self.train.labels.shape[1])
        if self.train.meta.data is not None:
            return len(self.train.meta.data.classes)
        return len(np.unique(self.train.labels))


def make_pair(
    train: FeatureSet, test: FeatureSet, *, subset: Subset | None = None, started: float | None = None
) -> FeaturePair:
    """Check that two sets belong together, and take a subset of the training images.

    Raises:
        UserError: They come from different networks, preprocessing or data, have labels without training images, or the
            subset is wrong.
    """
    started = time.perf_counter() if started is None else started
    notes = check_pair(train, test)
    train, described, more = (subset or Subset()).apply(train)
    return FeaturePair(train, test, described, [*notes, *more], started)


def read_pair(options: argparse.Namespace) -> FeaturePair:
    """The features that the arguments of `runtime.add_pair_arguments` name, or those of their checkpoint.

    Raises:
        UserError: Neither or both are given, or something is wrong with them.
    """
    started = time.perf_counter()
    _check(options)
    subset = Subset(fraction=options.subset, list_file=options.subset_list, seed=options.subset_seed)
    with_paths = options.subset is not None or options.subset_list is not None
    if options.checkpoint is None:
        train = read_features(options.train_features, with_paths=with_paths)
        return make_pair(train, read_features(options.test_features), subset=subset, started=started)
    from dino.evaluation.features.extraction import feature_settings, write_split_features

    splits = [options.train_split, options.test_split]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.features_dir or temporary)
        targets = [default_name(folder, options.data, split) for split in splits]
        write_split_features(feature_settings(options), list(zip(splits, targets, strict=True)))
        train, test = (read_features(target, with_paths=with_paths) for target in targets)
    return make_pair(train, test, subset=subset, started=started)


def check_pair(train: FeatureSet, test: FeatureSet) -> list[str]:
    """Notes on a pair of feature sets that may be compared.

    Raises:
        UserError: They come from different networks, preprocessing or data, or have labels without training images.
    """
    if train.features.shape[1] != test.features.shape[1]:
        raise UserError(
            f"training features have {train.features.shape[1]} dimensions and test features {test.features.shape[1]}: "
            "they are not from the same network"
        )
    if train.labels.shape[1:] != test.labels.shape[1:]:
        raise UserError(
            f"training labels have shape {train.labels.shape} and test labels {test.labels.shape}: both sets must have "
            "one label an image, or a table of the same classes"
        )
    unseen = _without_training_image(train, test)
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
            notes.append(skipped_note(meta, split))
    if train.meta.data and test.meta.data and train.meta.data.digest == test.meta.data.digest:
        notes.append("training and test features are of the same images")
    return notes


def skipped_note(meta: FeatureMeta, split: str) -> str:
    """How many images of a split could not be read, and the first of them."""
    images = meta.data.images if meta.data else 0
    return (
        f"{len(meta.skipped)} of {images} {split} images skipped as unreadable: "
        + ", ".join(meta.skipped[:3])
        + (", ..." if len(meta.skipped) > 3 else "")
    )


def _without_training_image(train: FeatureSet, test: FeatureSet) -> list[int]:
    if train.multi_label:
        lost = (test.labels == 1).any(axis=0) & ~(train.labels == 1).any(axis=0)
        return [int(label) for label in np.flatnonzero(lost)]
    return [int(label) for label in np.setdiff1d(test.labels, train.labels)]


def _class_name(features: FeatureSet, label: int) -> str:
    classes = features.meta.data.classes if features.meta.data else []
    return f"'{classes[label]}'" if label < len(classes) else f"label {label}"


def _check(options: argparse.Namespace) -> None:
    files = (options.train_features, options.test_features)
    if options.checkpoint is None and None in files:
        raise UserError("give --checkpoint and --data, or --train-features and --test-features")
    if options.checkpoint is not None and files != (None, None):
        raise UserError("--checkpoint makes its own features: leave out --train-features and --test-features")
    if options.checkpoint is not None and options.data is None:
        raise UserError("--checkpoint needs --data: a registered data set's name or a folder")
    if options.subset is not None and options.subset_list is not None:
        raise UserError("give --subset or --subset-list, not both")
