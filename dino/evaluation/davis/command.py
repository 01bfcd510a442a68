"""``dino davis``: video object segmentation on DAVIS 2017 by a checkpoint, or the score of masks that are there."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from dino.errors import UserError

if TYPE_CHECKING:
    from dino.evaluation.davis.dataset import DavisSet
    from dino.evaluation.davis.protocol import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino davis``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_precision_argument,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("from a checkpoint")
    add_checkpoint_arguments(group)
    group.add_argument("--results-dir", metavar="DIR", help="write the masks there, as palette PNGs")
    group.add_argument("--image-size", type=positive, default=480, metavar="PX", help="short side (default 480)")
    group.add_argument(
        "--multiple",
        type=positive,
        metavar="PX",
        help="the long side is floored to a multiple of it (default 64 at --image-size 480, else the patch size)",
    )
    group.add_argument("--context", type=_count, default=7, metavar="N", help="previous frames (default 7)")
    group.add_argument(
        "--radius", type=_count, default=12, metavar="N", help="of the window, patches; 0: whole frame (default 12)"
    )
    group.add_argument("--topk", type=positive, default=5, metavar="K", help="context patches followed (default 5)")
    group.add_argument("--temperature", type=_temperature, default=0.1, metavar="T", help="default 0.1")
    add_precision_argument(group)
    group.add_argument("--batch-size", type=positive, metavar="N", help="frames of a forward (default: by their size)")
    results = parser.add_argument_group("from masks")
    results.add_argument("--results", metavar="DIR", help="score DIR/<sequence>/<frame>.png, without a checkpoint")
    parser.add_argument(
        "--data",
        required=True,
        metavar="D",
        help="a registered data set's name, or a folder with JPEGImages/480p and Annotations/480p",
    )
    parser.add_argument("--split", default="val", metavar="S", help="list in ImageSets/2017 (default val)")
    parser.add_argument("--sequences", metavar="A,B", help="only these sequences of the folder")
    parser.add_argument("--output", required=True, metavar="F.json", help="the metrics file to write")
    parser.add_argument("--per-sequence", metavar="F.csv", help="also write a row for each object")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that score (default: by cores)")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the scores."""
    started = time.perf_counter()
    if (options.checkpoint is None) == (options.results is None):
        raise UserError("give either --checkpoint (to make masks) or --results (to score those that are there)")
    if options.results is not None and options.results_dir is not None:
        raise UserError("--results-dir is for masks that a checkpoint makes: leave it out beside --results")
    from dino.evaluation.davis.dataset import find_videos
    from dino.evaluation.davis.protocol import format_table, make_document, score_results, write_sequences
    from dino.metrics import write_metrics

    davis = find_videos(options.data, split=options.split, sequences=_names(options.sequences))
    workers = options.workers or options.threads
    if options.checkpoint is not None:
        outcome, about = _propagate(options, davis, workers)
    else:
        outcome = score_results(options.results, davis, workers=workers)
        about = {"identity": None, "settings": {"results": options.results}, "device": "cpu", "device_name": "cpu"}
    document = make_document(outcome, davis, started=started, **about)
    if options.per_sequence is not None:
        write_sequences(options.per_sequence, outcome.scores)
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document, outcome.scores))


def _names(text: str | None) -> list[str] | None:
    """The sequences that ``--sequences`` names."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--sequences names none: give them as a,b")
    return names


def _propagate(options: argparse.Namespace, davis: DavisSet, workers: int | None) -> tuple[Outcome, dict[str, Any]]:
    """Scores of the checkpoint's masks, and what the metrics file says of how they came about."""
    from dino.evaluation.checkpoints import load_from_options, require_vit
    from dino.evaluation.davis.propagation import PropagationSettings
    from dino.evaluation.davis.protocol import score_checkpoint
    from dino.evaluation.davis.segment import SegmentSettings
    from dino.evaluation.runtime import device_name, reuse_freed_memory, set_up_torch

    reuse_freed_memory()
    device = set_up_torch(options.device, options.threads)
    backbone, identity = load_from_options(options)
    network = require_vit(backbone, identity, what="patches").to(device)
    settings = SegmentSettings(
        device=device,
        image_size=options.image_size,
        multiple=options.multiple,
        precision=options.precision,
        batch_size=options.batch_size,
        propagation=PropagationSettings(
            context=options.context, radius=options.radius, topk=options.topk, temperature=options.temperature
        ),
    )
    outcome = score_checkpoint(network, davis, settings, results_dir=options.results_dir, workers=workers)
    return outcome, {
        "identity": identity,
        "settings": {**settings.described(network.patch_size), "model": identity.model},
        "device": str(device),
        "device_name": device_name(device),
    }


def _count(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {value})")
    return value


def _temperature(text: str) -> float:
    """A positive number, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 (got {text})")
    return value
