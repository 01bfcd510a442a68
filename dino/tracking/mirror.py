"""The mirror: makes MLflow show what run directories say, sending only what it has not sent yet.

A run directory is the truth; MLflow is its image. Delivering twice sends nothing the second time, and finds that out
from the files alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino.errors import UserError
from dino.log import logger
from dino.running.locks import file_lock
from dino.tracking.delivery import STREAMS, Delivered, Delivery, metrics_files, stat_of
from dino.tracking.describe import (
    CONFIG,
    STATUS,
    RunImage,
    describe_run,
    process_is_gone,
    read_status,
)
from dino.tracking.environment import ENVIRONMENT
from dino.tracking.state import State, StreamState, load_state, save_state
from dino.tracking.store import ensure_experiment, import_mlflow, known_runs, open_client
from dino.tracking.stream import waiting_points

_LOCK = ".mlflow.lock"
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}


class StoreUnavailable(Exception):
    """The store cannot be reached, or does not take anything now."""


class StoreRefused(Exception):
    """The store takes calls, but not this one."""


class StoreUnusable(UserError):
    """The store itself cannot be used, whatever is sent: a person has to mend it."""


class Mirror:
    """Delivers run directories to one store. MLflow is imported at the first thing to send.

    Several mirrors may serve the same folder: each run is delivered under a lock of its own, and what is delivered
    stands in its ``mlflow.json``.
    """

    def __init__(self, uri: str, *, client: Any = None) -> None:
        self.uri = uri
        self._client = client
        self._experiments: dict[str, str] = {}
        self._known = known_runs(uri)
        self._seen: dict[Path, list[Any]] = {}
        self._statuses: dict[Path, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def deliver(self, run_dir: Path, names: Mapping[str, Any] | None = None, *, wait: bool = True) -> Delivered:
        """Send what is new in ``run_dir``.

        Args:
            run_dir: The run.
            names: Its entry of ``names.json``.
            wait: For another mirror that is delivering this run.

        Raises:
            Held: Another mirror is delivering this run, and ``wait`` is false.
            StoreUnavailable: The store is not there; what had arrived is recorded.
            StoreRefused: The store does not take this run.
            StoreUnusable: The store cannot be used at all.
            UserError: A file of the run is damaged.
        """
        look = [*self._look(run_dir), names]
        if self._seen.get(run_dir) == look or not has_started(run_dir):
            return Delivered()
        signature = hashlib.sha256(json.dumps(look, sort_keys=True).encode()).hexdigest()[:24]
        with file_lock(run_dir / _LOCK, wait=wait):
            state = self._load(run_dir)
            if state.signature == signature:
                self._seen[run_dir] = look
                return Delivered()
            image = describe_run(run_dir, names)
            if state.run_id and state.fingerprint != image.fingerprint:
                logger.info("%s holds another configuration than the one delivered: it becomes a new run", run_dir)
                state = State(self.uri, elsewhere=state.elsewhere)
            delivered = self._guarded(run_dir, image, state)
            state.signature = signature
            save_state(run_dir, state)
        self._seen[run_dir] = look
        return delivered

    def waiting(self, run_dir: Path) -> Delivered:
        """What of ``run_dir`` the store has not got yet, counted without asking it."""
        if not has_started(run_dir):
            return Delivered()
        state = self._load(run_dir)
        points = sum(waiting_points(run_dir / name, state.streams.get(name, StreamState())) for name in STREAMS)
        evaluations = 0
        for path in metrics_files(run_dir):
            known = state.children.get(path.stem)
            evaluations += known is None or known.sha256 != hashlib.sha256(path.read_bytes()).hexdigest()
        return Delivered(points, evaluations, int(bool(points or evaluations or state.run_id is None)))

    @property
    def client(self) -> Any:
        """MLflow's client, opened when first asked for."""
        if self._client is None:
            try:
                self._client = open_client(self.uri)
            except UserError as error:
                raise StoreUnusable(str(error)) from error
        return self._client

    def _load(self, run_dir: Path) -> State:
        state = load_state(run_dir, self.uri)
        if state.run_id and self._known is not None and state.run_id not in self._known:
            # In a SQLite store that was deleted or replaced the run is gone; our own new runs are added below.
            self._known = known_runs(self.uri)
            if self._known is not None and state.run_id not in self._known:
                return State(self.uri, elsewhere=state.elsewhere)
        return state

    def _guarded(self, run_dir: Path, image: RunImage, state: State) -> Delivered:
        """Deliver, with MLflow's many exceptions turned into the two that matter, and progress recorded on both."""
        import_mlflow()
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            return Delivery(self.client, self.experiment, run_dir, image, state).run()
        except MlflowException as error:
            save_state(run_dir, state)
            reason = _reason(error)
            if error.error_code in _REFUSALS:
                raise StoreRefused(self._explain_refusal(state, reason)) from error
            raise StoreUnavailable(reason) from error
        except RequestException as error:
            save_state(run_dir, state)
            raise StoreUnavailable(_reason(error)) from error

    def _explain_refusal(self, state: State, reason: str) -> str:
        from mlflow.exceptions import MlflowException

        if state.run_id:
            try:
                stage = self.client.get_run(state.run_id).info.lifecycle_stage
            except MlflowException as error:
                stage = "gone" if error.error_code == "RESOURCE_DOES_NOT_EXIST" else ""
            if stage in ("deleted", "gone"):
                return (
                    f"its run {state.run_id} was deleted in MLflow; restore it there, or delete the run directory's "
                    "mlflow.json to send it as a new one"
                )
        return reason

    def experiment(self, name: str) -> str:
        """Id of the experiment ``name``, asked for once."""
        if name not in self._experiments:
            self._experiments[name] = ensure_experiment(self.client, name, self.uri)
        return self._experiments[name]

    def _look(self, run_dir: Path) -> list[Any]:
        """What an image is made from, told cheaply: sizes and times of files, and whether the process lives."""
        stats: list[Any] = [stat_of(run_dir / name) for name in (CONFIG, STATUS, ENVIRONMENT, *STREAMS)]
        for folder in ("metrics", "figures"):
            try:
                with os.scandir(run_dir / folder) as entries:
                    stats += sorted((entry.name, *stat_of(entry)) for entry in entries if entry.name[0] != ".")
            except FileNotFoundError:
                continue
        gone = False
        if any(stats[1]):
            status = self._status(run_dir, (*stats[1], *stats[2]))
            gone = status.get("status") == "running" and process_is_gone(run_dir, status)
        return [stats, gone]

    def _status(self, run_dir: Path, stat: tuple[Any, ...]) -> dict[str, Any]:
        cached = self._statuses.get(run_dir)
        if cached is None or cached[0] != stat:
            cached = self._statuses[run_dir] = (stat, read_status(run_dir))
        return cached[1]


def has_started(run_dir: Path) -> bool:
    """Whether there is more to show than a configuration that was written ahead."""
    return (run_dir / CONFIG).is_file() and any(
        (run_dir / name).exists() for name in (STATUS, *STREAMS, "metrics", "checkpoint.pth")
    )


def _reason(error: Exception) -> str:
    """The short end of the long chain of causes that HTTP and SQL errors quote."""
    text = " ".join(str(error).split())
    if status := re.search(r"too many (\d+) error responses", text):
        return f"it answers with HTTP status {status[1]}; is the database behind it up?"
    for words in ("connection refused", "timed out", "name or service not known", "database is locked", "disk is full"):
        if words in text.lower():
            return words
    return text if len(text) <= 300 else text[:300] + "..."
