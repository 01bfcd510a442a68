"""``dino sync``: deliver what runs have logged to MLflow, once or while they are going."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``dino sync``."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a run directory, or a folder with runs/")
    parser.add_argument("--watch", action="store_true", help="go on until SIGTERM, or until --parent ends")
    parser.add_argument("--parent", type=int, metavar="PID", help="with --watch: leave when this process has ended")
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="names of runs for people (default: runs/names.json, where it is)"
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="the store (default: $MLFLOW_TRACKING_URI, else mlflow.db in the current folder)",
    )
    parser.add_argument(
        "--interval", type=_positive, default=2.0, metavar="S", help="with --watch: seconds between passes (default: 2)"
    )
    parser.add_argument(
        "--final-timeout",
        type=_positive,
        default=60.0,
        metavar="S",
        help="with --watch: longest time for the last pass (default: 60)",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing unless something is wrong")


def run(options: argparse.Namespace) -> None:
    """Deliver.

    Raises:
        UserError: No runs there, or not everything could be delivered.
    """
    from dino.tracking.sync import stop_on_signals

    if options.watch:
        with stop_on_signals() as stop:  # first of all: a SIGTERM during the imports below must not kill
            _watch(options, stop)
    else:
        _once(options)


def _once(options: argparse.Namespace) -> None:
    from dino.errors import UserError
    from dino.log import logger
    from dino.tracking.mirror import Mirror, StoreUnavailable
    from dino.tracking.store import resolve_tracking_uri
    from dino.tracking.sync import Syncer, describe, find_runs, problems_sentence

    for path in options.paths:
        if not find_runs([path]):
            raise UserError(f"no runs in {path}: name a run directory (with config.yaml) or a folder that has runs/")
    if options.names is not None and not options.names.is_file():
        raise UserError(f"--names {options.names}: no such file")
    uri = resolve_tracking_uri(options.tracking_uri)
    syncer = Syncer(Mirror(uri), options.paths, options.names)
    try:
        delivered = syncer.deliver_all()
    except StoreUnavailable as error:
        raise UserError(syncer.explain(error)) from None
    if delivered.runs:
        logger.info("delivered %s to %s", describe(delivered), uri)
    elif not syncer.problems:
        logger.info("nothing to deliver: %s has everything", uri)
    if syncer.problems:
        raise UserError(problems_sentence(syncer))


def _watch(options: argparse.Namespace, stop: object) -> None:
    import os
    import threading

    from dino.log import logger
    from dino.tracking.mirror import Mirror
    from dino.tracking.store import resolve_tracking_uri
    from dino.tracking.sync import Syncer, describe, watch

    assert isinstance(stop, threading.Event)
    os.nice(5)  # training comes first
    uri = resolve_tracking_uri(options.tracking_uri)
    logger.info("mirroring %s to %s", " ".join(map(str, options.paths)), uri)
    syncer = Syncer(Mirror(uri), options.paths, options.names)
    delivered = watch(
        syncer, interval=options.interval, parent=options.parent, final_timeout=options.final_timeout, stop=stop
    )
    logger.info("delivered %s; all there is", describe(delivered))


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value
