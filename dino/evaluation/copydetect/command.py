"""``dino copydetect``: mAP of a checkpoint's descriptors on Copydays."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino copydetect``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_forward_arguments,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("what")
    add_checkpoint_arguments(group, required=True)
    group.add_argument("--data", required=True, metavar="D", help="a registered set, or a folder of original, strong")
    group.add_argument("--distractors", metavar="DIR", help="more images for the database (default: D/distractors)")
    group.add_argument("--whitening", metavar="DIR", help="images to learn the whitening from (default: D/whitening)")
    group.add_argument(
        "--image-size",
        type=positive,
        metavar="PX",
        help="of the square (default 320 for 8-pixel patches, else 224)",
    )
    group.add_argument("--features-dir", metavar="DIR", help="keep the features there, and use them where they fit")
    add_forward_arguments(group, batch_size=16)
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the score."""
    import time

    from dino.evaluation.checkpoints import load_from_options
    from dino.evaluation.copydetect.dataset import read_copydays
    from dino.evaluation.copydetect.protocol import evaluate_copydetect, format_table
    from dino.evaluation.features.whole_images import running_from_options
    from dino.metrics import write_metrics

    started = time.perf_counter()
    running = running_from_options(options)
    dataset = read_copydays(options.data, distractors=options.distractors, whitening=options.whitening)
    backbone, identity = load_from_options(options)
    document = evaluate_copydetect(
        backbone.to(running.device),
        identity,
        dataset,
        running=running,
        image_size=options.image_size,
        features_dir=Path(options.features_dir) if options.features_dir else None,
        started=started,
    )
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
