"""``dino pretrain``: one run, from its configuration to ``checkpoint.pth``; run again, it goes on where it was."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dino.config import (
    RunConfig,
    build_config,
    dump_config,
    fingerprint,
    load_config,
    load_recipe,
    run_id,
)
from dino.errors import UserError
from dino.files import write_text
from dino.log import logger
from dino.running.options import add_run_arguments, check_numbers, default_workers, set_up, with_all_ranks

CONFIG_NAME = "config.yaml"

if TYPE_CHECKING:
    from dino.data import PretrainLoader
    from dino.running.resumable import Resumable, Running
    from dino.running.signals import StopRequest
    from dino.training.supervised.data import LabelledLoader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("config", nargs="?", metavar="CONFIG", help="a run's config.yaml")
    source.add_argument("--recipe", help="a recipe of dino/recipes instead (the paper's units)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a field (may be given several times)"
    )
    parser.add_argument("--run-dir", required=True, type=Path, help="where the run lives and is resumed from")
    parser.add_argument("--data", help="a registered data set's name or a folder, instead of the configuration's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, help="processes that read images, for each rank (default: chosen)")
    parser.add_argument("--threads", type=int, help="CPU threads of each rank (default: torch's choice)")
    add_run_arguments(parser)
    parser.add_argument(
        "--snapshots",
        type=int,
        default=0,
        metavar="N",
        help="keep student and teacher backbones of about N evenly spaced epochs in <run dir>/snapshots (default 0)",
    )
    parser.add_argument("--names", type=Path, help="names.json: what studies call this run, shown in MLflow")
    parser.add_argument(
        "--tracking",
        choices=("online", "journal", "off"),
        default="journal",
        help="online: a child process mirrors the journal to MLflow; journal (default): `dino sync` can do so later; "
        "off: no system metrics either",
    )
    parser.add_argument("--quiet", action="store_true", help="warnings and errors only")


def run(options: argparse.Namespace) -> None:
    """Pretrain.

    Raises:
        UserError: A wrong option, configuration, data set or run directory.
        Interrupted: SIGTERM or SIGUSR2 came; the state is saved (exit status 75).
        DivergenceError: The loss is not finite (exit status 1).
    """
    check_numbers(options)
    config = resolve_config(options)
    if options.snapshots and config.objective == "supervised":
        raise UserError("--snapshots are of a student and its teacher, and a supervised run has none: leave it out")

    from dino.running.signals import StopRequest

    with StopRequest() as stop:
        running = set_up(options, options.run_dir)
        check_run_dir(options.run_dir, config)
        if is_finished(config, running):
            if options.snapshots and not (options.run_dir / "snapshots").is_dir():
                logger.warning("it kept no snapshots: remove %s to train it again with them", options.run_dir)
            _report(config, running)
            return
        loader = build_loader(options, config, running)  # before anything is written: its mistakes leave nothing
        with with_all_ranks(running, stop):
            # Once more: whoever had the directory may have made another run of it, or finished this one.
            check_run_dir(options.run_dir, config)
            if not is_finished(config, running):
                _train(options, config, loader, running, stop)


def build_loader(
    options: argparse.Namespace, config: RunConfig, running: Running
) -> PretrainLoader | LabelledLoader | None:
    """The run's data; None for a run of no epochs, which needs none.

    Raises:
        UserError: The data are missing, too few, or do not divide.
    """
    if config.epochs == 0:
        return None
    device, world = running.device, running.world
    workers = options.workers if options.workers is not None else default_workers(device)
    # A set named by hand is taken as it is; which version it is stands in its digest.
    data = config.model_copy(update={"dataset": options.data, "dataset_version": ""}) if options.data else config
    if config.objective == "supervised":
        from dino.training.supervised.pretraining import build_labelled_loader

        return build_labelled_loader(data, device=device, world=world, workers=workers)
    from dino.data import build_pretrain_loader

    return build_pretrain_loader(data, device=device, rank=world.rank, world_size=world.world_size, workers=workers)


def _train(
    options: argparse.Namespace,
    config: RunConfig,
    loader: PretrainLoader | LabelledLoader | None,
    running: Running,
    stop: StopRequest,
) -> None:
    from dino.running.resumable import Runner

    is_main = running.world.is_main
    if is_main and not (options.run_dir / CONFIG_NAME).exists():
        write_text(options.run_dir / CONFIG_NAME, dump_config(config))
    runner = Runner(build_training(config, loader, running, snapshots=options.snapshots))
    mirror = None
    sampler: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if is_main:
        from dino.tracking.environment import record_environment

        record_environment(options.run_dir)
    if is_main and options.tracking != "off":
        from dino.tracking.system import SystemSampler, gpu_uuid_of

        sampler = SystemSampler(options.run_dir, gpu_uuid=gpu_uuid_of(running.device))
        if options.tracking == "online":
            from dino.tracking.watcher import start_watcher

            mirror = start_watcher(options.run_dir, names=options.names)  # ends by itself when this process does
    with sampler:
        runner.run(stop)
    _report(config, running, digest=loader.digest if loader else None)
    if mirror is not None and mirror.poll():
        logger.warning("the MLflow mirror has stopped (status %d); `dino sync` delivers the rest", mirror.returncode)


def build_training(
    config: RunConfig, loader: PretrainLoader | LabelledLoader | None, running: Running, *, snapshots: int = 0
) -> Resumable:
    """What is run: with labels where the configuration says so."""
    if config.objective == "supervised" and loader is not None:
        from dino.training.supervised.pretraining import build_supervised_pretraining

        return build_supervised_pretraining(config, cast("LabelledLoader", loader), running)
    from dino.training.pretraining import Pretraining

    return Pretraining(config, cast("PretrainLoader | None", loader), running, snapshots=snapshots)


def _report(config: RunConfig, running: Running, *, digest: str | None = None) -> None:
    """Write the finished run's metrics file, unless it is there."""
    from dino.training.report import REPORT, write_report

    run_dir = running.run_dir
    if run_dir and running.world.is_main and not (run_dir / REPORT).is_file():
        logger.info("wrote %s", write_report(run_dir, config, device=str(running.device), digest=digest))


def resolve_config(options: argparse.Namespace) -> RunConfig:
    """The run's configuration: file or recipe, then ``--set``, then the name of ``--data`` for a recipe.

    A ``config.yaml`` names its data set; ``--data`` then says where it lies and leaves the run's identity alone.

    Raises:
        UserError: A wrong file, recipe, key or value.
    """
    if options.config:
        config = load_config(options.config)
        values = config.model_dump()
    else:
        values = load_recipe(options.recipe)
        if options.data:
            values["dataset"] = Path(options.data).resolve().name if Path(options.data).is_dir() else options.data
    for assignment in options.set:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected KEY=VALUE")
        values[key.strip()] = parse_value(value)
    return build_config(values, where="--set" if options.set else str(options.config or options.recipe))


def parse_value(text: str) -> Any:
    """A value as YAML reads it, so that ``none``-like, numbers (1e-3 too), lists and words have their types."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set: '{text}' is not readable as a YAML value") from None
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as a word
        except ValueError:
            return value
    return value


def check_run_dir(run_dir: Path, config: RunConfig) -> None:
    """Refuse a run directory that another configuration lives in.

    Raises:
        UserError: Names both configurations.
    """
    path = run_dir / CONFIG_NAME
    if not path.exists():
        return
    there = load_config(path)
    if fingerprint(there) != fingerprint(config):
        raise UserError(
            f"{run_dir} belongs to the configuration {fingerprint(there)} ({run_id(there)}), not to "
            f"{fingerprint(config)}: choose another --run-dir"
        )


def is_finished(config: RunConfig, running: Running) -> bool:
    """Whether the final checkpoint of this very configuration is there; says so."""
    from dino.running.checkpoint import CheckpointFolder

    assert running.run_dir is not None
    folder = CheckpointFolder(running.run_dir, fingerprint(config))
    finished = folder.is_finished()
    if finished and running.world.is_main:
        logger.info("%s is finished: %s is there", run_id(config), folder.final)
    return finished
