"""``dino retrieval``: mAP and mP@k of a checkpoint on Revisited Oxford or Paris."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino retrieval``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_forward_arguments,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("what")
    add_checkpoint_arguments(group, required=True)
    group.add_argument(
        "--data", required=True, metavar="D", help="a registered set, or a folder with jpg/ and gnd_*.pkl"
    )
    group.add_argument("--dataset-name", metavar="B", help="roxford5k or rparis6k, where the folder holds both")
    group.add_argument(
        "--image-size", type=positive, metavar="PX", help="longest side at most (default 512 for rparis6k, else 224)"
    )
    group.add_argument(
        "--multiscale",
        action=argparse.BooleanOptionalAction,
        help="average the features of three sizes (default for rparis6k)",
    )
    group.add_argument("--features-dir", metavar="DIR", help="keep the features there, and use them where they fit")
    add_forward_arguments(group, batch_size=16)
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the scores."""
    import time

    from dino.evaluation.checkpoints import load_from_options
    from dino.evaluation.features.whole_images import running_from_options
    from dino.evaluation.retrieval.dataset import read_revisited
    from dino.evaluation.retrieval.protocol import evaluate_retrieval, format_table
    from dino.metrics import write_metrics

    started = time.perf_counter()
    running = running_from_options(options)
    dataset = read_revisited(options.data, benchmark=options.dataset_name)
    backbone, identity = load_from_options(options)
    document = evaluate_retrieval(
        backbone.to(running.device),
        identity,
        dataset,
        running=running,
        image_size=options.image_size,
        multiscale=options.multiscale,
        features_dir=Path(options.features_dir) if options.features_dir else None,
        started=started,
    )
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
