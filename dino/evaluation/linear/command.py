"""``dino linear``: linear probes on a frozen backbone; run again after a stop, it goes on where it was."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dino.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino linear``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_precision_argument,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("what")
    add_checkpoint_arguments(group, required=True)
    group.add_argument("--data", required=True, metavar="D", help="a registered data set's name or a folder")
    group.add_argument("--train-split", default="train", metavar="S", help="default train")
    group.add_argument("--test-split", default="test", metavar="S", help="default test")
    parser.add_argument("--output", required=True, type=Path, metavar="F.json", help="the metrics file to write")
    probes = parser.add_argument_group("probes")
    probes.add_argument(
        "--lrs",
        type=float,
        nargs="+",
        metavar="LR",
        help="base learning rates, at batch 256 (0.0001 0.0003 0.001 0.003 0.01 0.03 0.1 0.3)",
    )
    probes.add_argument(
        "--features",
        nargs="+",
        metavar="F",
        help="l4: [CLS] of the last 4 blocks; pool: last [CLS] and mean patch (l1 l2 l4 l6 pool; pooled of a ResNet)",
    )
    probes.add_argument("--headline", metavar="F", help="the feature of top1 (l4; pool of a ViT-B)")
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--epochs", type=positive, metavar="N", help="epochs (100)")
    recipe.add_argument("--batch-size", type=positive, metavar="N", help="images of a step (1024)")
    recipe.add_argument("--image-size", type=positive, metavar="PX", help="crops (default: the checkpoint's; 224)")
    recipe.add_argument(
        "--resize",
        type=positive,
        metavar="PX",
        help="short side of a test image before its crop (default 8/7 of it; below 160 px the same)",
    )
    add_precision_argument(recipe)
    recipe.add_argument("--micro-batch", type=positive, metavar="N", help="images of one forward pass (128)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read images (default: by cores)")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Train the probes, write the metrics file and print the accuracies."""
    from dino.evaluation.linear.recipe import build_settings

    if options.workers is not None and options.workers < 0:
        raise UserError(f"--workers must be at least 0, not {options.workers}")
    chosen = _chosen(options)
    build_settings(chosen)  # a wrong option is told before anything is loaded

    from dino.running.signals import StopRequest

    with StopRequest() as stop:
        from dino.evaluation.checkpoints import load_from_options
        from dino.evaluation.features.extraction import choose_preprocessing, default_workers
        from dino.evaluation.linear.protocol import LinearJob, evaluate_linear, format_table, state_file
        from dino.evaluation.runtime import set_up_torch
        from dino.metrics import write_metrics
        from dino.running.process import configure_process

        device = set_up_torch(options.device, options.threads)
        configure_process(device)
        backbone, identity = load_from_options(options, image_size=options.image_size)
        sizes = choose_preprocessing(
            identity.model, image_size=options.image_size, resize=options.resize, precision=options.precision
        )
        settings = build_settings({**chosen, "image_size": sizes.image_size, "resize": sizes.resize})
        job = LinearJob(
            data=options.data,
            train_split=options.train_split,
            test_split=options.test_split,
            output=options.output,
            device=device,
            workers=default_workers(options.workers),
        )
        document = evaluate_linear(backbone, identity, settings, job, stop=stop)
    write_metrics(options.output, document)
    state_file(options.output).unlink(missing_ok=True)
    if not options.quiet:
        print(format_table(document))


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the settings."""
    names = ("lrs", "features", "headline", "epochs", "batch_size", "precision", "micro_batch", "seed")
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
