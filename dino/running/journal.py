"""The journal: one JSON object a line, appended and flushed; the truth about a run's curves.

A line is ``{"step": 120, "epoch": 1.25, "time": 1790000000.123, "metrics": {"loss": 5.1}}``. JSON has no NaN and no
infinities, so those values stand as the strings ``"nan"``, ``"inf"`` and ``"-inf"``; `parse_line` and `read` turn them
back into floats. A line reaches the file by a single write, so a killed process leaves at most one torn last line,
which readers pass over and the next `Journal` cuts off. Imports neither torch nor MLflow.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dino.errors import UserError
from dino.files import atomic_path

JOURNAL = "metrics.jsonl"
_NAME = re.compile(r"[A-Za-z0-9_\-.:/ ]{1,250}")


@dataclass(frozen=True, slots=True)
class Record:
    """One line: what was measured at one step."""

    step: int
    epoch: float
    time: float
    """Seconds since 1970, when the line was logged."""
    metrics: dict[str, float]


class Journal:
    """Appends to ``run_dir/metrics.jsonl`` (or another ``name`` of the same format); one process writes at a time.

    Opening an existing journal cuts off a torn last line. A resumed run calls `truncate` with its checkpoint's step
    before it logs again, so that each step stands once.

    Raises:
        UserError: The folder cannot be written.

    Example:
        >>> from dino.running.journal import Journal, read
        >>> with Journal("run") as journal:
        ...     journal.log(step=10, epoch=0.5, metrics={"loss": 5.25})
        ...     journal.log(step=20, epoch=1.0, metrics={"loss": 4.75})
        >>> [(record.step, record.metrics["loss"]) for record in read("run")]
        [(10, 5.25), (20, 4.75)]
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, name: str = JOURNAL) -> None:
        self.path = Path(run_dir) / name
        self.last_step: int | None = None
        """Step of the last line; None for an empty journal."""
        self._descriptor: int | None = None
        self._open()

    def log(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Append one line; it is in the kernel's hands (a kill -9 cannot lose it) when this returns.

        Args:
            step: Optimizer steps done so far; larger than that of the line before.
            epoch: The same in epochs, with its fraction.
            metrics: Name to value. Names have letters, digits, ``_ - . / :`` and spaces, as MLflow demands.

        Raises:
            ValueError: A name that MLflow would refuse, a step not beyond the last one, or a closed journal.
            UserError: The disk is full.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path}: the journal is closed")
        if self.last_step is not None and step <= self.last_step:
            raise ValueError(
                f"{self.path}: step {step} after step {self.last_step}: each step is logged once, in order"
            )
        for name in metrics:
            check_metric_name(name)
        line = {
            "step": int(step),
            "epoch": round(float(epoch), 6),
            "time": round(time.time(), 3),
            "metrics": {name: _to_json(value) for name, value in metrics.items()},
        }
        self._write(json.dumps(line, allow_nan=False, separators=(", ", ": ")).encode() + b"\n")
        self.last_step = int(step)

    def truncate(self, step: int) -> None:
        """Drop, atomically, every line beyond ``step`` (the step of the checkpoint that the run resumes from)."""
        kept = []
        dropped = False
        for line in _whole_lines(self.path):
            record = parse_line(line)
            if record is not None and record.step <= step:
                kept.append(line)
            else:
                dropped = True
        if not dropped:
            return
        self.close()
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(b"".join(kept))
        self._open()

    def sync(self) -> None:
        """Force the lines to the disk (before a checkpoint is declared good), against a loss of power."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; choose a folder you may write to") from error
        size = os.fstat(self._descriptor).st_size
        whole = _newline_before(self._descriptor, size)
        if whole < size:
            os.ftruncate(self._descriptor, whole)
        start = _newline_before(self._descriptor, whole - 1) if whole else 0
        last = parse_line(os.pread(self._descriptor, whole - start, start))
        self.last_step = None if last is None else last.step

    def _write(self, line: bytes) -> None:
        assert self._descriptor is not None
        start = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(line):  # one turn, unless the disk fills up half-way
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, start)  # no torn line in the middle of the file
            raise UserError(f"cannot append to {self.path}: {error.strerror}; nothing before it was lost") from error


def read(path: str | os.PathLike[str]) -> list[Record]:
    """All records of a journal, in order; none where there is no file. A torn last line is passed over.

    Args:
        path: The file, or the run directory that holds ``metrics.jsonl``.

    Raises:
        UserError: A whole line that is no record: something else has written to the file.
    """
    path = Path(path)
    try:  # no look before the leap: a run directory may be made in between
        lines = _whole_lines(path)
    except IsADirectoryError:
        path = path / JOURNAL
        lines = _whole_lines(path)
    records = []
    for number, line in enumerate(lines, start=1):
        record = parse_line(line)
        if record is None:
            raise UserError(f"{path}, line {number}: not a journal record; restore the file or delete that line")
        records.append(record)
    return records


def parse_line(line: bytes) -> Record | None:
    """The record on one line, or None where it is not a whole record."""
    try:
        value = json.loads(line)
        metrics = {str(name): float(number) for name, number in value["metrics"].items()}
        return Record(int(value["step"]), float(value["epoch"]), float(value["time"]), metrics)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def check_metric_name(name: str) -> str:
    """Return ``name`` if MLflow takes it.

    Raises:
        ValueError: It is empty, longer than 250, or has another character than letters, digits, ``_ - . / :``, space.
    """
    if not _NAME.fullmatch(name) or name.startswith("/") or ".." in name.split("/") or "" in name.split("/"):
        raise ValueError(f"'{name}' is no metric name: use letters, digits, and _ - . / : or spaces, at most 250")
    return name


def _to_json(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)  # "nan", "inf", "-inf"


def _whole_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return lines


def _newline_before(descriptor: int, end: int) -> int:
    """Offset just after the last newline among the first ``end`` bytes, read backwards in blocks; 0 without one."""
    while end > 0:
        start = max(0, end - 65536)
        position = os.pread(descriptor, end - start, start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0
