"""``dino knn``: weighted k-NN of a checkpoint, or of two feature files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino knn``."""
    from dino.evaluation.runtime import add_pair_arguments, add_runtime_arguments, positive

    add_pair_arguments(parser)
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    parser.add_argument("--k", type=positive, nargs="+", default=[10, 20, 100, 200], metavar="K", help="neighbours")
    parser.add_argument("--headline-k", type=positive, default=20, metavar="K", help="k of top1 and top5 (default 20)")
    parser.add_argument("--temperature", type=float, default=0.07, metavar="T", help="of the votes (default 0.07)")
    parser.add_argument("--memory-mib", type=positive, default=512, metavar="M", help="bound of a chunk (default 512)")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the accuracies."""
    from dino.evaluation.features.pairs import read_pair
    from dino.evaluation.knn.protocol import evaluate_knn, format_table
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import write_metrics

    device = set_up_torch(options.device, options.threads)
    document = evaluate_knn(
        read_pair(options),
        ks=options.k,
        headline_k=options.headline_k,
        temperature=options.temperature,
        device=device,
        memory_mib=options.memory_mib,
    )
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
