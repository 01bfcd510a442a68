"""``dino fetch NAME``: released weights from the network, resumed where a download stopped, checked by their hash."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="released weights, e.g. dino_vits16; all for all of them"
    )
    parser.add_argument("--list", action="store_true", help="say what there is and what is here; fetches nothing")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to (default: DINO_WEIGHTS or results/weights)"
    )
    parser.add_argument(
        "--url", metavar="URL", help="another address of the one NAME: a URL, or a file of this machine"
    )
    parser.add_argument("--force", action="store_true", help="fetch it again even if it is here")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def run(options: argparse.Namespace) -> None:
    """Fetch the weights, one after the other; the first failure ends it, and another call goes on from there.

    Raises:
        UserError: A name is unknown, or a file cannot be fetched.
    """
    from dino.errors import UserError
    from dino.released import RELEASED, find_weights, weights_folder

    folder = options.folder or weights_folder()
    if options.list:
        print("\n".join(_lines(folder)))
        return
    names = (
        [name for name, weights in RELEASED.items() if weights.default] if options.names == ["all"] else options.names
    )
    if not names:
        raise UserError(f"name the weights to fetch, or all (there are: {', '.join(RELEASED)})")
    if options.url and len(names) > 1:
        raise UserError(f"--url is the address of one file, and {len(names)} are named")
    for name in names:
        find_weights(name)
    for name in names:
        _fetch(name, folder, url=options.url, force=options.force)


def _fetch(name: str, folder: Path, *, url: str | None, force: bool) -> None:
    from dino.fetching import fetch_file
    from dino.log import logger
    from dino.released import find_weights

    weights = find_weights(name)
    target = folder / weights.file_name
    if target.is_file() and not force:
        logger.info("%s is here: %s", name, target)
        return
    fetched = fetch_file(url or weights.url, target, sha256=weights.sha256, name=name)
    if len(weights.sha256) == 64:
        checked = "as published"
    elif weights.sha256:
        checked = f"whose first {len(weights.sha256)} digits are published, and agree"
    else:
        checked = "not checked: none is published"
    logger.info("%s: %s, %.1f MiB, SHA-256 %s (%s)", name, target, fetched.bytes / 2**20, fetched.sha256, checked)


def _lines(folder: Path) -> list[str]:
    """What there is, one line each."""
    from dino.released import RELEASED

    lines = [f"in {folder}:"]
    for name, weights in RELEASED.items():
        here = "here" if (folder / weights.file_name).is_file() else "not here"
        extra = "" if weights.default else " (not part of `all`)"
        lines.append(f"  {name:26} {here:9} {weights.title}{extra}")
    return lines
