"""``dino throughput``: images per second, parameters, tokens, multiply-adds and memory of a backbone."""

from __future__ import annotations

import argparse
import time

from dino.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino throughput``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_precision_argument,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("what (a checkpoint, or --arch and --patch-size alone)")
    add_checkpoint_arguments(group)
    group.add_argument("--image-size", type=positive, default=224, metavar="PX", help="default 224")
    group.add_argument(
        "--batch-sizes", type=positive, nargs="+", default=[1, 8, 32, 128], metavar="N", help="default 1 8 32 128"
    )
    group.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each batch size (default 3)")
    add_precision_argument(group)
    group.add_argument("--channels-last", action="store_true", help="images and convolutions in that memory layout")
    group.add_argument("--compile", action="store_true", help="torch.compile the network first")
    parser.add_argument("--output", required=True, metavar="F.json", help="the metrics file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print what was measured."""
    started = time.perf_counter()
    if options.checkpoint is None:
        if options.arch is None and options.config is None:
            raise UserError("give --checkpoint, or --arch and --patch-size")
        options.checkpoint = "random"  # speed does not depend on the weights
    if options.seconds <= 0:
        raise UserError(f"--seconds {options.seconds:g}: must be above 0")
    from dino.evaluation.checkpoints import load_from_options
    from dino.evaluation.runtime import set_up_torch
    from dino.evaluation.throughput.protocol import evaluate_throughput, format_table
    from dino.evaluation.throughput.timing import TimingSettings
    from dino.metrics import write_metrics

    settings = TimingSettings(
        device=set_up_torch(options.device, options.threads),
        image_size=options.image_size,
        batch_sizes=tuple(options.batch_sizes),
        seconds=options.seconds,
        precision=options.precision,
        channels_last=options.channels_last,
        compile=options.compile,
    )
    # The position table of random weights is made for these images: nothing is resampled while the clock runs.
    backbone, identity = load_from_options(options, image_size=options.image_size)
    document = evaluate_throughput(backbone, identity, settings, started=started)
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
