"""``dino knn``: weighted k-NN of a checkpoint, or of two feature files."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dino.errors import UserError

if TYPE_CHECKING:
    from dino.evaluation.feature_files import FeatureSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino knn``."""
    from dino.evaluation.runtime import add_features_arguments, add_runtime_arguments, positive

    files = parser.add_argument_group("from feature files")
    files.add_argument("--train-features", metavar="A.npz", help="features of the training images")
    files.add_argument("--test-features", metavar="B.npz", help="features of the test images")
    add_features_arguments(parser, title="from a checkpoint")
    parser.add_argument("--train-split", default="train", metavar="S", help="the split that votes (default train)")
    parser.add_argument("--test-split", default="test", metavar="S", help="the split that is classified (default test)")
    parser.add_argument("--features-dir", metavar="DIR", help="keep the features there, and use them where they fit")
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    parser.add_argument("--k", type=positive, nargs="+", default=[10, 20, 100, 200], metavar="K", help="neighbours")
    parser.add_argument("--headline-k", type=positive, default=20, metavar="K", help="k of top1 and top5 (default 20)")
    parser.add_argument("--temperature", type=float, default=0.07, metavar="T", help="of the votes (default 0.07)")
    parser.add_argument("--memory-mib", type=positive, default=512, metavar="M", help="bound of a chunk (default 512)")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the accuracies."""
    _check(options)
    from dino.evaluation.feature_files import read_features
    from dino.evaluation.knn_protocol import evaluate_knn, format_table
    from dino.evaluation.metrics import write_metrics
    from dino.evaluation.runtime import set_up_torch

    device = set_up_torch(options.device, options.threads)
    started = time.perf_counter()
    if options.checkpoint is None:
        train, test = read_features(options.train_features), read_features(options.test_features)
    else:
        train, test = _extract(options)
    document = evaluate_knn(
        train,
        test,
        ks=options.k,
        headline_k=options.headline_k,
        temperature=options.temperature,
        device=device,
        memory_mib=options.memory_mib,
        started=started,
    )
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))


def _check(options: argparse.Namespace) -> None:
    files = (options.train_features, options.test_features)
    if options.checkpoint is None and None in files:
        raise UserError("give --checkpoint and --data, or --train-features and --test-features")
    if options.checkpoint is not None and files != (None, None):
        raise UserError("--checkpoint makes its own features: leave out --train-features and --test-features")
    if options.checkpoint is not None and options.data is None:
        raise UserError("--checkpoint needs --data: a registered data set's name or a folder")


def _extract(options: argparse.Namespace) -> tuple[FeatureSet, FeatureSet]:
    import tempfile

    from dino.evaluation.feature_files import default_name, read_features
    from dino.evaluation.features import write_split_features
    from dino.evaluation.runtime import feature_settings

    splits = [options.train_split, options.test_split]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.features_dir or temporary)
        targets = [default_name(folder, options.data, split) for split in splits]
        write_split_features(feature_settings(options), list(zip(splits, targets, strict=True)))
        train, test = (read_features(target) for target in targets)
    return train, test
