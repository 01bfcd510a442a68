"""Measures what tracking stores take: SQLite, `mlflow server` on SQLite, `mlflow server` on PostgreSQL.

    python benchmarks/tracking.py [--writers 1 8 32] [--seconds 10] [--points 100] [--stores sqlite ...]

Each writer is a process with a run of its own that sends `log_batch` calls of `--points` points one after another, as a
watcher does whose journals never end. What is counted has been answered; an error is a call that raised; the store is
asked afterwards whether it has every answered point. PostgreSQL is started by `tests/dino/tracking/tracking_server.py`.
On one machine the writers compete with the server for its cores: the numbers compare stores, they do not say what a
server on a machine of its own could do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "dino" / "tracking"))

from tracking_server import TrackingServer, why_not  # noqa: E402

STORES = ("sqlite", "server-sqlite", "server-postgresql")
COUNT = "SELECT count(*) FROM metrics"


@dataclass
class Written:
    """What one writer did."""

    seconds: list[float] = field(default_factory=list)
    """Of each call that was answered."""
    errors: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each cell (default: 10)")
    parser.add_argument("--points", type=int, default=100, help="of each call, at most 1000 (default: 100)")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (default: 1)")
    options = parser.parse_args()
    reason = why_not()
    if reason and "server-postgresql" in options.stores:
        sys.exit(f"error: no server on PostgreSQL: {reason}")
    print(f"log_batch of {options.points} points, {options.seconds:g} s a cell, {options.workers} server process(es)")
    print(f"{'store':<19}" + "".join(f"{title:>9}" for title in TITLES))
    for store in options.stores:
        with open_store(store, options.workers) as (uri, count):
            for writers in options.writers:
                load, before = os.getloadavg()[0], count()
                written = write_at_once(uri, writers, options.seconds, options.points)
                show(store, written, options, load)
                answered = options.points * sum(len(one.seconds) for one in written)
                if (kept := count() - before) < answered:
                    sys.exit(f"error: {store} answered for {answered} points and has {kept}")


TITLES = ("writers", "calls/s", "points/s", "p50 ms", "p99 ms", "max ms", "errors", "load")
"""``load``: the machine's load average before the cell, to tell a busy machine from a quiet one."""


def show(store: str, written: list[Written], options: argparse.Namespace, load: float) -> None:
    milliseconds = 1000 * np.array([second for one in written for second in one.seconds])
    errors = [error for one in written for error in one.errors]
    rate = len(milliseconds) / options.seconds
    times = np.percentile(milliseconds, (50, 99, 100)) if len(milliseconds) else (np.nan,) * 3
    numbers = [f"{len(written)}", f"{rate:.1f}", f"{rate * options.points:.0f}", *(f"{one:.0f}" for one in times)]
    numbers += [f"{len(errors)}", f"{load:.1f}"]
    print(f"{store:<19}" + "".join(f"{number:>9}" for number in numbers), flush=True)
    for error in sorted(set(errors)):
        print(f"    {errors.count(error)} x {error}", flush=True)


@contextmanager
def open_store(store: str, workers: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """The address of a new store, and what counts its points; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tracking-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's user passes through

        def count_in_sqlite() -> int:
            connection = sqlite3.connect(folder / "mlflow.db", timeout=60)
            try:
                return int(connection.execute(COUNT).fetchone()[0])
            finally:
                connection.close()

        if store == "sqlite":
            from dino.tracking.store import SQLITE, open_client

            uri = SQLITE + str(folder / "mlflow.db")
            open_client(uri)
            yield uri, count_in_sqlite
            return
        server = TrackingServer(folder, store=store.removeprefix("server-"), workers=workers)
        try:
            server.start()
            yield server.uri, count_in_sqlite if server.store == "sqlite" else lambda: int(server.sql(COUNT))
        finally:
            server.stop()


def write_at_once(uri: str, writers: int, seconds: float, points: int) -> list[Written]:
    """Let ``writers`` processes write for ``seconds`` from the moment at which all of them are ready."""
    from dino.tracking.store import import_mlflow

    import_mlflow()  # for what it sets in the environment, before the fork server imports MLflow once for all writers
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store"])
    ready, answers = context.Barrier(writers), context.Queue()
    processes = [context.Process(target=write, args=(uri, seconds, points, ready, answers)) for _ in range(writers)]
    for process in processes:
        process.start()
    try:
        written = [answers.get(timeout=seconds + 600) for _ in processes]
    except queue.Empty:
        sys.exit(f"error: a writer to {uri} gave no answer")
    for process in processes:
        process.join()
    return written


def write(uri: str, seconds: float, points: int, ready: Any, answers: Any) -> None:
    """One writer: one run, calls one after another."""
    from dino.tracking.store import ensure_experiment, open_client

    client = open_client(uri)
    from mlflow.entities import Metric

    run = client.create_run(ensure_experiment(client, "benchmark", uri), run_name=f"writer {os.getpid()}").info.run_id
    written, names = Written(), [f"metric{i}" for i in range(10)]
    ready.wait()
    end, step = time.monotonic() + seconds, 0
    while (began := time.monotonic()) < end:
        batch = [Metric(names[i % 10], float(i), 1000 * step, step + i // 10) for i in range(points)]
        step += (points + 9) // 10
        try:
            client.log_batch(run, metrics=batch)
            written.seconds.append(time.monotonic() - began)
        except Exception as error:  # counted and shown by the parent: errors are what is measured
            written.errors.append(" ".join(str(error).split())[:120])
    answers.put(written)


if __name__ == "__main__":
    main()
