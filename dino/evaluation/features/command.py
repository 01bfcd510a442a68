"""``dino features``: a checkpoint's features of one or more splits of a data set."""

from __future__ import annotations

import argparse

from dino.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino features``."""
    from dino.evaluation.runtime import add_features_arguments, add_runtime_arguments

    add_features_arguments(parser, title="what", required=True)
    parser.add_argument(
        "--split", action="append", metavar="S", help="train or test (default test); may repeat, each with its --output"
    )
    parser.add_argument("--output", action="append", required=True, metavar="F.npz", help="the feature file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write a feature file for each split."""
    splits = options.split or ["test"]
    if len(splits) != len(options.output):
        raise UserError(f"{len(splits)} --split but {len(options.output)} --output: give one for each of the other")
    if len(set(options.output)) < len(options.output):
        raise UserError("two --output name the same file")
    from dino.evaluation.features.extraction import feature_settings, write_split_features

    write_split_features(feature_settings(options), list(zip(splits, options.output, strict=True)))
