"""Exact delivery of one journal: every step of it once, whatever is killed, truncated or unreachable meanwhile."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dino.log import logger
from dino.running.journal import Record, parse_line
from dino.tracking.state import StreamState

BATCH_POINTS = 1000
"""What MLflow takes in one call."""
_BLOCK_BYTES = 1 << 20


def deliver_stream(
    path: Path,
    state: StreamState,
    *,
    client: Any,
    run_id: str,
    prefix: str = "",
    save: Callable[[], None],
) -> int:
    """Send what ``path`` has beyond ``state`` to the run ``run_id``; returns the number of points sent.

    The intent is written before each batch is sent; that it has arrived stands in the next intent, or in what the
    caller writes at the end. A mirror that dies in between leaves the intent; the next one asks the store which of
    those steps it has, and sends the others. Steps that a resumed run logs again are behind ``state.step`` and are
    passed over.

    Args:
        path: The journal; a missing one has nothing to send.
        state: How far it is delivered; changed in place.
        client: An MLflow client.
        run_id: MLflow's run.
        prefix: Put before each metric's name.
        save: Writes the state durably.
    """
    points = 0
    for batch, end, last_line in _batches(path, state):
        fresh = [record for record in batch if record.step > state.step]
        if fresh:
            last = fresh[-1].step
            uncertain = state.sending
            arrived = _arrived(client, run_id, fresh, uncertain, prefix) if uncertain is not None else {}
            state.sending = max(last, uncertain if uncertain is not None else last)
            save()
            points += _send(client, run_id, fresh, arrived, prefix)
            state.step = last
            if state.sending <= last:
                state.sending = None
        state.offset = end
        state.anchor, state.anchor_bytes = zlib.crc32(last_line), len(last_line)
    return points


def waiting_points(path: Path, state: StreamState) -> int:
    """How many points a store has not got yet."""
    return sum(
        len(record.metrics) for batch, _, _ in _batches(path, state) for record in batch if record.step > state.step
    )


def _batches(path: Path, state: StreamState) -> Iterator[tuple[list[Record], int, bytes]]:
    """Records from ``state.offset`` on, in batches of at most 1000 points where lines allow.

    With each batch come the offset at which it ends and the line that ends there.
    """
    if state.offset and not _is_where_it_was(path, state):
        state.offset = 0  # the journal was rewritten by a resumed run: read it again, steps decide what is new
    batch: list[Record] = []
    points = 0
    end, last_line = state.offset, b""
    for line, line_end in _lines(path, state.offset):
        record = parse_line(line)
        if record is None:
            logger.warning("%s: passed over a line at byte %d that is no record", path, line_end - len(line))
        else:
            if batch and points + len(record.metrics) > BATCH_POINTS:
                yield batch, end, last_line
                batch, points = [], 0
            if not batch or record.step > batch[-1].step:
                batch.append(record)
                points += len(record.metrics)
        end, last_line = line_end, line
    if end > state.offset:
        yield batch, end, last_line


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines from ``offset`` on, each with the offset just after it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rest = b""
    try:
        while block := os.pread(descriptor, _BLOCK_BYTES, offset + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                yield line + b"\n", offset
    finally:
        os.close(descriptor)


def _is_where_it_was(path: Path, state: StreamState) -> bool:
    """Whether the line read last still ends at ``state.offset``."""
    try:
        with open(path, "rb") as handle:
            handle.seek(state.offset - state.anchor_bytes)
            line = handle.read(state.anchor_bytes)
    except FileNotFoundError:
        return False
    return len(line) == state.anchor_bytes and zlib.crc32(line) == state.anchor


def _arrived(client: Any, run_id: str, records: list[Record], until: int, prefix: str) -> dict[str, set[int]]:
    """The steps that the store has already, of the metrics of the records up to step ``until``."""
    names = {name for record in records if record.step <= until for name in record.metrics}
    return {
        name: {metric.step for metric in client.get_metric_history(run_id, prefix + name)} for name in sorted(names)
    }


def _send(client: Any, run_id: str, records: list[Record], arrived: dict[str, set[int]], prefix: str) -> int:
    from mlflow.entities import Metric

    metrics = [
        Metric(prefix + name, value, round(record.time * 1000), record.step)
        for record in records
        for name, value in record.metrics.items()
        if record.step not in arrived.get(name, ())
    ]
    for start in range(0, len(metrics), BATCH_POINTS):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH_POINTS])
    return len(metrics)
