"""Run directories made of files, and a SQLite store that is migrated once a session and copied for each test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dino.config import build_config, dump_config, fingerprint, run_id
from dino.running.journal import Journal
from dino.tracking.store import SQLITE, open_client


@pytest.fixture(scope="session")
def template_database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(SQLITE + str(path))
    return path


@pytest.fixture
def uri(template_database, tmp_path) -> str:
    """A fresh SQLite store's address."""
    path = tmp_path / "mlflow.db"
    shutil.copy(template_database, path)
    return SQLITE + str(path)


class FakeRun:
    """A run directory as the jobs would write it."""

    def __init__(self, runs: Path, **fields) -> None:
        values = {"dataset": "world", "dataset_version": "d1" * 20, "epochs": 10, "warmup_epochs": 1, **fields}
        self.config = build_config(values)
        self.run_id = run_id(self.config)
        self.path = runs / self.run_id
        self.path.mkdir(parents=True)
        (self.path / "config.yaml").write_text(dump_config(self.config))

    def log(self, first: int, last: int, *, offset: float = 0.0, width: int = 1) -> None:
        """Steps from ``first`` to ``last``, with the loss and ``width`` more metrics."""
        more = {f"lr{i}" if i else "lr": 0.001 for i in range(width)}
        with Journal(self.path) as journal:
            for step in range(first, last + 1):
                journal.log(step, step / 10, {"loss": offset + 1.0 / step, **more})

    def truncate(self, step: int) -> None:
        with Journal(self.path) as journal:
            journal.truncate(step)

    def status(self, word: str = "finished", **more) -> None:
        document = {"status": word, "step": 1, "message": "", "collapse": None, "started": "2026-01-31T12:00:00+00:00"}
        (self.path / "status.json").write_text(json.dumps({**document, "seconds": 5.0, **more}))

    def evaluate(self, top1: float, *, protocol: str = "knn", **settings) -> None:
        folder = self.path / "metrics"
        folder.mkdir(exist_ok=True)
        document = {
            "schema": 1,
            "protocol": protocol,
            "metrics": {
                "top1": {"value": top1, "unit": "%", "n": 100},
                "top1_k10": {"value": top1 - 1, "unit": "%", "n": 100},
                "teacher_e30": {"value": top1 - 9, "unit": "%", "n": 100},
            },
            "chance": 5.0,
            "settings": {"k": [10, 20], "headline_k": 20, **settings},
            "run_id": self.run_id,
            "fingerprint": fingerprint(self.config),
            "data": {"name": "world", "digest": "e2" * 32, "train": 800, "test": 100, "classes": 20},
            "checkpoint": {"path": "checkpoint.pth", "sha256": "0" * 64, "key": "teacher"},
            "device": "cpu",
            "seconds": 1.5,
            "created": "2026-01-31T12:01:00+00:00",
        }
        (folder / f"{protocol}.json").write_text(json.dumps(document))


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results" / "laptop"


@pytest.fixture
def make_run(results):
    def make(**fields) -> FakeRun:
        return FakeRun(results / "runs", **fields)

    return make


@pytest.fixture
def finished_run(make_run) -> FakeRun:
    """300 steps of two metrics and a k-NN."""
    run = make_run()
    run.log(1, 300)
    run.status()
    run.evaluate(61.5)
    return run


class Store:
    """What a store shows, read back through MLflow's own client."""

    def __init__(self, uri: str) -> None:
        self.client = open_client(uri)

    def runs(self, *, deleted: bool = False):
        from mlflow.entities import ViewType

        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        return list(self.client.search_runs(experiments, run_view_type=view))

    def parents(self):
        return [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]

    def parent(self):
        (run,) = self.parents()
        return run

    def children(self):
        return [run for run in self.runs() if "mlflow.parentRunId" in run.data.tags]

    def steps(self, key: str, run=None) -> list[int]:
        run = run or self.parent()
        return [point.step for point in self.client.get_metric_history(run.info.run_id, key)]


@pytest.fixture
def store(uri) -> Store:
    return Store(uri)
