"""``dino logistic``: logistic regression on the features of a checkpoint, or of two feature files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino logistic``."""
    from dino.evaluation.runtime import add_pair_arguments, add_runtime_arguments, positive

    add_pair_arguments(parser)
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    parser.add_argument(
        "--lambdas", type=float, nargs="+", default=[0.01, 0.1, 1.0], metavar="L", help="L2 strengths (0.01 0.1 1)"
    )
    parser.add_argument("--headline-lambda", type=float, default=0.1, metavar="L", help="of top1 or map (default 0.1)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="T", help="of the objective, relative (default 1e-4)"
    )
    parser.add_argument(
        "--max-passes", type=positive, default=1000, metavar="N", help="over the features, at most (default 1000)"
    )
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the accuracies."""
    from dino.evaluation.features.pairs import read_pair
    from dino.evaluation.logistic.protocol import evaluate_logistic, format_table
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import write_metrics

    device = set_up_torch(options.device, options.threads)
    document = evaluate_logistic(
        read_pair(options),
        lambdas=options.lambdas,
        headline=options.headline_lambda,
        tolerance=options.tolerance,
        max_passes=options.max_passes,
        device=device,
    )
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
