"""``dino masks``: Jaccard index of a checkpoint's attention masks with VOC12's objects."""

from __future__ import annotations

import argparse
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino masks``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_precision_argument,
        add_runtime_arguments,
        positive,
    )

    group = parser.add_argument_group("what")
    add_checkpoint_arguments(group, required=True)
    group.add_argument(
        "--data",
        required=True,
        metavar="D",
        help="a registered data set's name, or a folder with JPEGImages/ and SegmentationClass/ (VOCdevkit/VOC2012)",
    )
    group.add_argument("--split", default="val", metavar="S", help="list in ImageSets/Segmentation (default val)")
    group.add_argument(
        "--image-size", type=positive, default=480, metavar="PX", help="side of the input images (default 480)"
    )
    group.add_argument(
        "--resize",
        choices=["short-side", "square"],
        default="short-side",
        help="the short side, keeping the aspect (default), or both sides as in the authors' figures",
    )
    group.add_argument(
        "--void",
        choices=["ignore", "background"],
        default="ignore",
        help="pixels labelled 255: in no count (default), or background",
    )
    add_precision_argument(group)
    group.add_argument("--batch-size", type=positive, default=8, metavar="N", help="of a forward (default 8)")
    parser.add_argument("--output", required=True, metavar="F.json", help="the metrics file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the overlaps."""
    started = time.perf_counter()
    from dino.evaluation.checkpoints import load_from_options, require_vit
    from dino.evaluation.masks.protocol import MaskSettings, evaluate_masks, format_table
    from dino.evaluation.masks.voc import find_scenes
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import write_metrics

    settings = MaskSettings(
        device=set_up_torch(options.device, options.threads),
        image_size=options.image_size,
        resize=options.resize,
        void=options.void,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    scenes = find_scenes(options.data, options.split)
    backbone, identity = load_from_options(options)
    network = require_vit(backbone, identity, what="attention heads")
    document = evaluate_masks(network, identity, scenes, settings, started=started)
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_table(document))
