"""Delivering folders of runs: once, or again and again while runs are going."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dino.errors import UserError
from dino.log import logger
from dino.running.locks import Held
from dino.tracking.delivery import Delivered, stat_of
from dino.tracking.describe import CONFIG, process_birth
from dino.tracking.mirror import Mirror, StoreRefused, StoreUnavailable, StoreUnusable

_CPU_SHARE = 0.01
"""Of a core, at most about so much goes into a watch: passes over hundreds of runs become rarer..."""
_LONGEST_PAUSE = 10.0
"""...down to one every ten seconds."""
_LONGEST_WAIT = 60.0
"""Seconds between attempts at a store that stays away, or at a run that it refuses."""


class OutOfTime(BaseException):
    """The last pass has used up its time; not an `Exception`, since MLflow catches those."""


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run directories behind ``paths``: run directories, folders of them, results folders (with ``runs/``), or a
    folder of results folders."""
    found: dict[Path, None] = {}
    for path in paths:
        if (path / CONFIG).is_file():
            found[path] = None
            continue
        folders = [path / "runs"] if (path / "runs").is_dir() else [path, *(sub / "runs" for sub in _subfolders(path))]
        for folder in folders:
            found |= {run_dir: None for run_dir in _subfolders(folder) if (run_dir / CONFIG).is_file()}
    return list(found)


def _subfolders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path / name for name in names]


class Names:
    """``names.json``: what people call each run; read again when it changes."""

    def __init__(self, path: Path | None = None) -> None:
        """Where ``path`` is None, the file beside each run directory is used, if there is one."""
        self._path = path
        self._tables: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}

    def of(self, run_dir: Path) -> dict[str, Any] | None:
        """The entry of the run, if anybody has named it.

        Raises:
            UserError: The file is not a JSON object.
        """
        path = self._path or run_dir.parent / "names.json"
        stat = stat_of(path)
        if stat == (0, 0):
            return None
        if path not in self._tables or self._tables[path][0] != stat:
            try:
                self._tables[path] = (stat, dict(json.loads(path.read_text(encoding="utf-8"))))
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}: not a table of names ({error}); `snakemake` writes it again") from error
        return self._tables[path][1].get(run_dir.name)


class Syncer:
    """Passes over all runs of some folders; a run that the store refuses does not stop the others."""

    def __init__(self, mirror: Mirror, paths: Sequence[Path], names: Path | None = None) -> None:
        self.mirror = mirror
        self.paths = list(paths)
        self.names = Names(names)
        self.problems: dict[Path, str] = {}
        """What is wrong with runs that could not be delivered."""
        self.served: set[Path] = set()
        """Runs of which anything was sent, over all passes."""
        self.held: list[Path] = []
        """Runs that the last pass found another mirror at."""
        self._retry_at: dict[Path, float] = {}

    def deliver_all(self, *, patient: bool = False) -> Delivered:
        """One pass; runs that another mirror is delivering are left to the end, so that several share the work.

        Args:
            patient: For passes every two seconds: leave a run with a problem alone for a minute, and a run that another
                mirror is delivering to the next pass.

        Raises:
            StoreUnavailable: The store is away; the rest of the pass is left out.
        """
        total = Delivered()
        self.held.clear()
        for run_dir in find_runs(self.paths):
            if patient and self._retry_at.get(run_dir, 0.0) > time.monotonic():
                continue
            try:
                total += self._deliver(run_dir, wait=False)
            except Held:
                self.held.append(run_dir)
        if not patient:
            for run_dir in self.held:
                total += self._deliver(run_dir, wait=True)
        return total

    def _deliver(self, run_dir: Path, *, wait: bool) -> Delivered:
        try:
            delivered = self.mirror.deliver(run_dir, self.names.of(run_dir), wait=wait)
        except StoreUnusable:
            raise
        except (StoreRefused, UserError) as error:
            if self.problems.get(run_dir) != str(error):
                logger.warning("%s was not delivered: %s", run_dir, error)
            self.problems[run_dir] = str(error)
            self._retry_at[run_dir] = time.monotonic() + _LONGEST_WAIT
            return Delivered()
        self.problems.pop(run_dir, None)
        if delivered.runs:
            self.served.add(run_dir)
        return delivered

    def explain(self, error: Exception) -> str:
        """One sentence on what waits, for an unreachable store."""
        waiting = Delivered()
        for run_dir in find_runs(self.paths):
            try:
                waiting += self.mirror.waiting(run_dir)
            except UserError:
                continue  # told about by the pass itself
        folders = " ".join(str(path) for path in self.paths)
        return (
            f"the tracking store {self.mirror.uri} takes nothing now ({error}): {describe(waiting)} wait in "
            f"the run directories, nothing is lost; when it is back, run `dino sync {folders}`"
        )


def watch(
    syncer: Syncer,
    *,
    interval: float = 2.0,
    parent: int | None = None,
    final_timeout: float = 60.0,
    stop: threading.Event | None = None,
) -> Delivered:
    """Deliver every ``interval`` seconds until ``stop`` is set or the process ``parent`` is gone, then once more.

    A store that is away is tried again after 2, 4, 8, ... 60 seconds. Reads only what was appended to journals.

    Args:
        syncer: What to deliver, and where.
        interval: Least seconds between passes; more where a pass is costly: it takes at most a third of the time, and
            about a hundredth of a core unless that means more than 10 s between passes.
        parent: Process id; its end means that nothing more is coming.
        final_timeout: Seconds that the last pass may take.
        stop: Set by `stop_on_signals`.

    Raises:
        UserError: The last pass could not deliver everything; it says how much waits.
    """
    stop = stop or threading.Event()
    born = process_birth(parent) if parent is not None else None
    total = Delivered()
    away = 0

    def parent_gone() -> bool:
        return parent is not None and (born is None or process_birth(parent) != born)

    while not stop.is_set() and not parent_gone():
        began, cpu_began = time.monotonic(), time.process_time()
        try:
            total += syncer.deliver_all(patient=True)
            if away and not syncer.held:  # a pass that left runs to another mirror may have asked the store nothing
                logger.info("the tracking store is back")
                away = 0
            cheap = min(_LONGEST_PAUSE, (time.process_time() - cpu_began) / _CPU_SHARE)
            pause = max(interval, cheap, 2 * (time.monotonic() - began))
        except (StoreUnavailable, UserError) as error:
            if not away:
                logger.warning("%s", syncer.explain(error) if isinstance(error, StoreUnavailable) else error)
            away += 1
            pause = min(_LONGEST_WAIT, interval * 2**away)
        until = time.monotonic() + pause
        while not stop.is_set() and (left := until - time.monotonic()) > 0 and not parent_gone():
            stop.wait(min(left, interval))
    # A store that answered until now may only have been slow once; one that was away is not worth the wait.
    total += _last_pass(syncer, final_timeout, attempts=1 if away else 3)
    total.runs = len(syncer.served)
    return total


def _last_pass(syncer: Syncer, timeout: float, *, attempts: int) -> Delivered:
    try:
        with _deadline(timeout):
            for left in reversed(range(attempts)):
                try:
                    delivered = syncer.deliver_all()
                    break
                except StoreUnavailable:
                    if not left:
                        raise
                    time.sleep(1.0)
    except OutOfTime:
        raise UserError(syncer.explain(TimeoutError(f"not done after {timeout:g} s"))) from None
    except StoreUnavailable as error:
        raise UserError(syncer.explain(error)) from None
    if syncer.problems:
        raise UserError(problems_sentence(syncer))
    return delivered


def problems_sentence(syncer: Syncer) -> str:
    """One sentence on the runs that were not delivered."""
    run_dir, problem = next(iter(syncer.problems.items()))
    others = f" (and {len(syncer.problems) - 1} more)" if len(syncer.problems) > 1 else ""
    return f"{run_dir} was not delivered: {problem}{others}"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a watch ends with a last pass."""
    event = threading.Event()
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the main thread after ``seconds``, also out of a blocking call."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(delivered: Delivered) -> str:
    """E.g. ``1,200 points and 3 evaluations of 2 runs``."""
    parts = [_count(delivered.points, "point"), _count(delivered.evaluations, "evaluation")]
    return f"{' and '.join(parts)} of {_count(delivered.runs, 'run')}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
