"""A generated data set as a folder that is either whole or absent."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from pathlib import Path

from dino.data.generated.copies import write_copydays
from dino.data.generated.landmarks import write_landmarks
from dino.data.generated.scenes import write_voc
from dino.data.generated.videos import write_davis
from dino.data.generated.world import write_world
from dino.errors import UserError
from dino.log import logger
from dino.registry import DatasetSpec, dataset_version

MARKER = ".generated-by-dino"
"""Says that a folder is ours to replace, also while its manifest (a job's output, so Snakemake's to delete) is gone."""


def generate(spec: DatasetSpec, target: Path, *, force: bool = False) -> bool:
    """Write ``spec`` to the folder ``target``: built beside it under a temporary name, then renamed.

    Args:
        spec: A generated set.
        target: Its folder; an earlier version of it is replaced.
        force: Replace it even if it is up to date.

    Returns:
        Whether anything was written.

    Raises:
        UserError: ``spec`` is a real set, ``target`` holds something else, or the disk is full.
    """
    if spec.kind != "generated":
        raise UserError(f"data set '{spec.name}' is a real one; only generated sets can be generated")
    if not force and _digest_of(target) == dataset_version(spec):
        logger.info("%s is there already", target)
        return False
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; choose another --output")
    if target.is_dir() and any(target.iterdir()) and not (target / MARKER).is_file():
        raise UserError(f"{target} holds something other than a generated set; choose another --output or remove it")
    began = time.monotonic()
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    building = target.with_name(f".{target.name}.{unique}.tmp")
    replaced = target.with_name(f".{target.name}.{unique}.old")
    try:
        building.mkdir(parents=True)
        (building / MARKER).touch()
        _write(spec, building)
        if target.is_dir():
            target.rename(replaced)
        building.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left for {target}: free some, then run the same command again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise UserError(
                f"cannot write {target}: {error.strerror}; choose a folder that you may write to"
            ) from error
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    logger.info("wrote %s: %s in %.1f s", target, spec.title, time.monotonic() - began)
    return True


def _write(spec: DatasetSpec, folder: Path) -> None:
    """Call the set's generator."""
    match spec.generator:
        case "world":
            write_world(spec, folder)
        case "voc":
            write_voc(spec, folder)
        case "davis":
            write_davis(spec, folder)
        case "landmarks":
            write_landmarks(spec, folder)
        case "copydays":
            write_copydays(spec, folder)


def _digest_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return None
