"""Checkpoints: whole or absent, complete, and never taken up by another configuration.

The keys are listed in docs/architecture.md. Files are read with ``weights_only=True``: nothing in them is executed.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dino.config import RunConfig, fingerprint, run_id
from dino.errors import UserError
from dino.files import atomic_path
from dino.log import logger

FORMAT = "dino-checkpoint"
VERSION = 1
KEPT = 2
"""Partial checkpoints kept: the newest, and one before it in case the newest cannot be read."""

FINAL_NAME = "checkpoint.pth"
PARTIAL_FOLDER = "checkpoints"
_PARTIAL = re.compile(r"step-(\d+)\.pth")


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path``: temporary file, fsync, rename.

    Raises:
        UserError: The disk is full or the folder cannot be written; older files are as they were.
    """
    with atomic_path(path) as temporary:
        try:
            # Through a Python file, because torch's own writer does not say why a write failed.
            with open(temporary, "wb") as handle:
                torch.save({"format": FORMAT, "version": VERSION, **state}, handle)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dict of a checkpoint file, tensors on the CPU.

    The checksum of every part is compared first, which torch does not do: a flipped bit is damage too.

    Raises:
        UserError: It is damaged, or no checkpoint of this project.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (part := archive.testzip()) is not None:
                raise UserError(f"{path}: is damaged (checksum of {part})")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this project")
    if state["version"] > VERSION:
        raise UserError(f"{path}: is of version {state['version']}, newer than this program reads ({VERSION})")
    return state


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a checkpoint says of the run that it belongs to."""

    run_id: str
    fingerprint: str
    config: dict[str, Any]
    """Fields of a `dino.config.RunConfig`: how `dino.models.load_backbone` knows the network."""
    data_digest: str | None

    @classmethod
    def of(cls, config: RunConfig, data_digest: str | None) -> RunIdentity:
        """Of a pretraining."""
        values = config.model_dump(mode="json")
        return cls(run_id=run_id(config), fingerprint=fingerprint(config), config=values, data_digest=data_digest)


class CheckpointFolder:
    """The checkpoints of one run directory.

    Args:
        run_dir: The run directory.
        fingerprint: Of the run's configuration; another one is refused.
    """

    def __init__(self, run_dir: Path, fingerprint: str) -> None:
        self.run_dir, self.fingerprint = run_dir, fingerprint
        self.folder = run_dir / PARTIAL_FOLDER
        self.final = run_dir / FINAL_NAME

    def partials(self) -> list[tuple[int, Path]]:
        """(step, path) of the partial checkpoints, newest first."""
        found = [(_PARTIAL.fullmatch(path.name), path) for path in self.folder.glob("step-*.pth")]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def save(self, state: dict[str, Any]) -> Path:
        """Write a partial checkpoint and let go of all but the last two."""
        path = self.folder / f"step-{state['step']:08d}.pth"
        write_checkpoint(path, state)
        self._keep(KEPT)
        return path

    def finish(self, state: dict[str, Any]) -> None:
        """Write the final ``checkpoint.pth``, the run's last file.

        It is a second name of the newest partial checkpoint where the file system can do that: it costs no space, and
        where the declared output is deleted (Snakemake does so before it repeats a job) the work is not lost.
        """
        newest = self.save(state)
        try:
            temporary = self.final.with_name(f".{FINAL_NAME}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            os.link(newest, temporary)
            os.replace(temporary, self.final)
        except OSError:
            write_checkpoint(self.final, state)
        self._keep(1)

    def is_finished(self) -> bool:
        """Whether the final checkpoint is there and is of this configuration.

        Raises:
            UserError: It is of another configuration.
        """
        if not self.final.exists():
            return False
        try:
            state = read_checkpoint(self.final)
        except UserError as error:
            logger.warning("%s; it will be made again", error)
            return False
        self._check_fingerprint(self.final, state)
        return True

    def newest(self) -> dict[str, Any] | None:
        """The newest partial checkpoint that can be read, or None; damaged ones are named and passed over.

        Raises:
            UserError: It is of another configuration.
        """
        for _, path in self.partials():
            try:
                state = read_checkpoint(path)
            except UserError as error:
                logger.warning("%s; trying the one before", error)
                continue
            self._check_fingerprint(path, state)
            return state
        return None

    def last_good(self) -> str:
        """For people: where the run can be taken up again."""
        partials = self.partials()
        if not partials:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint, of step {partials[0][0]}, is kept: {partials[0][1]}"

    def _check_fingerprint(self, path: Path, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"{path} belongs to the configuration {state['fingerprint']} ({state['run_id']}), not to "
                f"{self.fingerprint}: choose another --run-dir, or remove that one to start anew"
            )

    def _keep(self, count: int) -> None:
        stale = self.folder.glob(".step-*.tmp.pth")  # of a process that was killed while it wrote
        for path in (*(path for _, path in self.partials()[count:]), *stale):
            path.unlink(missing_ok=True)


class CheckpointFile:
    """The state of an unfinished evaluation, one file beside its output; whoever wrote the output removes it.

    Args:
        path: The file.
        fingerprint: Of what is done; another's state is not taken up.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def newest(self) -> dict[str, Any] | None:
        """The state, or None where there is none that fits."""
        if not self.path.exists():
            return None
        try:
            state = read_checkpoint(self.path)
        except UserError as error:
            logger.warning("%s; starting anew", error)
            return None
        if state["fingerprint"] != self.fingerprint:
            logger.info("%s is of other settings, weights or images; starting anew", self.path)
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state."""
        write_checkpoint(self.path, state)

    finish = save
