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
from dino.collector import spare_modules
from dino.errors import EXIT_DIVERGED, EXIT_REQUEUE, EXIT_USER_ERROR, DivergenceError, Interrupted, UserError
from dino.protocols import FEATURES, PICTURES, PROTOCOLS
from dino.warm.client import run_warm

_OTHERS = {
    "generate": "write a generated data set in its real format",
    "fetch": "download released weights, checked by their hash",
    "sync": "deliver logged points and metrics to MLflow, once or while runs are going",
    "doctor": "say what is installed, reachable and missing",
}

COMMANDS = {
    **{stage.name: stage.help for stage in (PROTOCOLS["pretrain"], FEATURES)},
    **{protocol.name: protocol.help for protocol in PROTOCOLS.values() if protocol.has_job},
    **{picture.name: picture.help for picture in PICTURES.values()},
    **_OTHERS,
}
"""What ``dino --help`` says of each subcommand."""

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
    """The module of a subcommand: of `dino.commands`, or a stage's in `dino.evaluation`."""
    if name in _OTHERS or name == "pretrain":
        return importlib.import_module(f"dino.commands.{name}")
    module = importlib.import_module(f"dino.evaluation.{name}")
    return module if hasattr(module, "run") else importlib.import_module(f"{module.__name__}.command")


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
    if argv is None:
        spare_modules()
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
