"""The ``dino`` command: one subcommand a job.

Only the module of the chosen subcommand is imported, and those modules import torch inside ``run``, so that
``dino --help`` answers at once and hundreds of short jobs pay only for what they use.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from dino import __version__
from dino.errors import EXIT_DIVERGED, EXIT_REQUEUE, EXIT_USER_ERROR, DivergenceError, Interrupted, UserError
from dino.warm.client import run_warm

# name -> what `dino --help` says
COMMANDS = {
    "pretrain": "pretrain one run from its config.yaml or a recipe; resumes by itself",
    "features": "write a checkpoint's features of a data set as .npz",
    "knn": "weighted k-NN of a checkpoint or of two feature files",
    "knn_curve": "k-NN of the teacher and the student over a pretraining, from its snapshots",
    "linear": "linear probes on a frozen backbone, a grid of learning rates in one pass",
    "logistic": "logistic regression on frozen features, also of a few labels",
    "finetune": "fine-tune a checkpoint on a labelled data set; resumes by itself",
    "retrieval": "image retrieval on Revisited Oxford and Paris",
    "copydetect": "copy detection on Copydays",
    "davis": "video object segmentation on DAVIS 2017, and its J and F",
    "masks": "Jaccard of attention masks on VOC12 objects",
    "attention": "draw a checkpoint's self-attention on images or a video",
    "tsne": "t-SNE of class means",
    "throughput": "images per second, parameters, tokens and memory of a backbone",
    "generate": "write a generated data set in its real format",
    "fetch": "download released weights, checked by their hash",
    "sync": "deliver logged points and metrics to MLflow, once or while runs are going",
    "doctor": "say what is installed, reachable and missing",
}

START_COLD = ("fetch", "sync", "doctor")
"""What never starts in a warm process: they need no torch, or run beside the workflow."""


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the ``chosen`` subcommand only (the others keep their one line of help)."""
    parser = argparse.ArgumentParser(
        prog="dino",
        description="DINO (arXiv 2104.14294): pretrain and evaluate. `snakemake` runs all of it.",
    )
    parser.add_argument("--version", action="version", version=f"dino {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == chosen:
            _module(name).add_arguments(command)
    return parser


def _module(name: str) -> Any:
    home = "commands" if name in ("pretrain", "generate", "fetch", "sync", "doctor") else "evaluation"
    return importlib.import_module(f"dino.{home}.{name}" if home == "commands" else f"dino.{home}.{name}.command")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0; 1 for a run that diverged; 2 for a person's mistake; 75 for "saved, run me again".
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    if argv is None and chosen in COMMANDS and chosen not in START_COLD:
        status = run_warm("dino", arguments)
        if status is not None:
            return status
    options = build_parser(chosen).parse_args(arguments)
    from dino.log import logger, set_up_logging

    set_up_logging(quiet=getattr(options, "quiet", False))
    try:
        _module(options.command).run(options)
    except UserError as error:
        print(f"dino {options.command}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except DivergenceError as error:
        print(f"dino {options.command}: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except Interrupted as stop:
        logger.warning("%s", stop)
        return EXIT_REQUEUE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `dino ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
