"""``dino knn_curve``: k-NN of teacher and student over the snapshots of a pretraining."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino knn_curve``."""
    from dino.evaluation.runtime import add_forward_arguments, add_runtime_arguments, add_size_arguments, positive

    what = parser.add_argument_group("what")
    what.add_argument("--snapshots", required=True, type=Path, metavar="DIR", help="a run's folder of snapshots")
    what.add_argument("--data", required=True, metavar="D", help="a registered data set's name or a folder")
    what.add_argument("--output", required=True, type=Path, metavar="O.json", help="the metrics file to write")
    how = parser.add_argument_group("how")
    how.add_argument("--k", type=positive, default=20, metavar="K", help="neighbours (default 20)")
    how.add_argument("--temperature", type=float, default=0.07, metavar="T", help="of the votes (default 0.07)")
    add_size_arguments(how)
    how.add_argument("--memory-mib", type=positive, default=512, metavar="M", help="bound of a chunk (default 512)")
    add_forward_arguments(how, batch_size=128)
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the curve."""
    from dino.evaluation.knn_curve.protocol import CurveSettings, evaluate_curve, format_table
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import write_metrics

    settings = CurveSettings(
        snapshots=options.snapshots,
        data=options.data,
        device=set_up_torch(options.device, options.threads),
        k=options.k,
        temperature=options.temperature,
        image_size=options.image_size,
        resize=options.resize,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        memory_mib=options.memory_mib,
    )
    document = evaluate_curve(settings, options.output)
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
