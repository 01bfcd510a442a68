"""``dino generate NAME``: write a generated data set in its real format, whole or not at all."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", help="a registered generated data set, e.g. world-laptop")
    parser.add_argument("--output", type=Path, metavar="DIR", help="its folder (default: results/data/NAME)")
    parser.add_argument("--force", action="store_true", help="write it again even if the folder has it already")


def run(options: argparse.Namespace) -> None:
    """Generate the set.

    Raises:
        UserError: The name is unknown or a real set's, or the folder holds something else.
    """
    from dino.data.generated.generate import generate
    from dino.registry import find_spec, generated_path

    spec = find_spec(options.name)
    generate(spec, options.output or generated_path(spec.name), force=options.force)
