"""``dino pretrain``: one run, from its configuration to ``checkpoint.pth``; run again, it goes on where it was."""

from __future__ import annotations

import argparse
import contextlib
import os
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

CONFIG_NAME = "config.yaml"

if TYPE_CHECKING:
    import torch

    from dino.data import PretrainLoader
    from dino.running.distributed import World
    from dino.running.signals import StopRequest
    from dino.training.loop import Training
    from dino.training.supervised.data import LabelledLoader
    from dino.training.supervised.loop import LabelledTraining


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
    parser.add_argument("--checkpoint-minutes", type=float, default=30.0, help="longest time between checkpoints")
    parser.add_argument("--checkpoint-every-epochs", type=int, default=1, help="epochs between checkpoints")
    parser.add_argument("--log-every", type=int, help="steps between logged points (default: about 300 points a run)")
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

    with StopRequest() as stop:  # from the start: a signal while data load is not lost either
        import torch

        from dino.running import distributed
        from dino.running.locks import sole_owner

        world = distributed.find_world()
        if not world.is_main:
            logger.setLevel("WARNING")
        check_run_dir(options.run_dir, config)
        if options.threads:
            torch.set_num_threads(options.threads)
        device = choose_device(options.device, world)
        if is_finished(options.run_dir, config, world):
            if options.snapshots and not (options.run_dir / "snapshots").is_dir():
                logger.warning("it kept no snapshots: remove %s to train it again with them", options.run_dir)
            _report(options.run_dir, config, world, device)
            return
        loader = build_loader(options, config, world, device)  # before anything is written: its mistakes leave nothing
        owner = sole_owner(options.run_dir, stop=stop) if world.is_main else contextlib.nullcontext()
        with owner:  # the other ranks wait for rank 0 in the process group
            distributed.start_process_group(world, device)
            try:
                if not is_finished(options.run_dir, config, world):  # by whoever had the directory before
                    _train(options, config, loader, world, device, stop)
            finally:
                distributed.stop_process_group()


def build_loader(
    options: argparse.Namespace, config: RunConfig, world: World, device: torch.device
) -> PretrainLoader | LabelledLoader | None:
    """The run's data; None for a run of no epochs, which needs none.

    Raises:
        UserError: The data are missing, too few, or do not divide.
    """
    from dino.running.process import configure_process

    configure_process(device)
    if config.epochs == 0:
        return None
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
    world: World,
    device: torch.device,
    stop: StopRequest,
) -> None:
    if world.is_main and not (options.run_dir / CONFIG_NAME).exists():
        write_text(options.run_dir / CONFIG_NAME, dump_config(config))
    training = build_training(options, config, loader, world, device)
    mirror = None
    sampler: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if world.is_main:
        from dino.tracking.environment import record_environment

        record_environment(options.run_dir)
    if world.is_main and options.tracking != "off":
        from dino.tracking.system import SystemSampler, gpu_uuid_of

        sampler = SystemSampler(options.run_dir, gpu_uuid=gpu_uuid_of(device))
        if options.tracking == "online":
            from dino.tracking.watcher import start_watcher

            mirror = start_watcher(options.run_dir, names=options.names)  # ends by itself when this process does
    with sampler:
        training.run(stop)
    _report(options.run_dir, config, world, device, digest=loader.digest if loader else None)
    if mirror is not None and mirror.poll():
        logger.warning("the MLflow mirror has stopped (status %d); `dino sync` delivers the rest", mirror.returncode)


def build_training(
    options: argparse.Namespace,
    config: RunConfig,
    loader: PretrainLoader | LabelledLoader | None,
    world: World,
    device: torch.device,
) -> Training | LabelledTraining:
    """The run itself: with labels where the configuration says so."""
    if config.objective == "supervised" and loader is not None:
        from dino.training.supervised.pretraining import build_labelled_training

        labelled = cast("LabelledLoader", loader)
        return build_labelled_training(config, labelled, options.run_dir, device=device, world=world)
    from dino.training.loop import LoopSettings, Training

    settings = LoopSettings(
        checkpoint_minutes=options.checkpoint_minutes,
        checkpoint_every_epochs=options.checkpoint_every_epochs,
        log_every=options.log_every,
        snapshots=options.snapshots,
    )
    return Training(
        config, cast("PretrainLoader | None", loader), options.run_dir, device=device, world=world, settings=settings
    )


def _report(run_dir: Path, config: RunConfig, world: World, device: torch.device, *, digest: str | None = None) -> None:
    """Write the finished run's metrics file, unless it is there."""
    from dino.training.report import REPORT, write_report

    if world.is_main and not (run_dir / REPORT).is_file():
        logger.info("wrote %s", write_report(run_dir, config, device=str(device), digest=digest))


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


def check_numbers(options: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, by the option's name.

    Raises:
        UserError: One of them.
    """
    for name in ("workers", "threads", "checkpoint_minutes", "checkpoint_every_epochs", "log_every", "snapshots"):
        value, least = getattr(options, name), 0 if name in ("workers", "checkpoint_minutes", "snapshots") else 1
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value:g}")


def default_workers(device: torch.device) -> int:
    """Reading processes of a rank: on a CPU none, since they would take training's own cores; else the cores to spare.

    At most 10, the authors' default; sets kept in memory use none.
    """
    if device.type == "cpu":
        return 0
    return max(1, min(10, (os.cpu_count() or 1) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) - 1))


def choose_device(name: str, world: World) -> torch.device:
    """``auto`` takes a GPU where there is one; each rank its own.

    Raises:
        UserError: A GPU was asked for, or a rank needs one, and there is none.
    """
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu")
    index = 0 if count == 1 else world.local_rank  # a launcher may show each rank its own GPU only
    if index >= count or (count == 1 and world.local_rank > 0 and "CUDA_VISIBLE_DEVICES" not in os.environ):
        raise UserError(f"local rank {world.local_rank} has no GPU: this machine shows {count}; start fewer ranks")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


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


def is_finished(run_dir: Path, config: RunConfig, world: World) -> bool:
    """Whether the final checkpoint of this very configuration is there; says so."""
    from dino.running.checkpoint import CheckpointFolder

    folder = CheckpointFolder(run_dir, fingerprint(config))
    finished = folder.is_finished()
    if finished and world.is_main:
        logger.info("%s is finished: %s is there", run_id(config), folder.final)
    return finished
