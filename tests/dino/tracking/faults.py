"""Clients that fail where a test wants: the process dies, the answer is lost, the store is away for a while."""

from __future__ import annotations

import copy
from collections import Counter
from types import SimpleNamespace

WRITES = {
    "create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated", "update_run", "delete_tag", "delete_run",
    "create_experiment",
}  # fmt: skip


class Killed(BaseException):
    """What a kill -9 is to the code: nothing after it runs, no handler of `Exception` sees it."""


class FaultyClient:
    """Passes calls on to ``client``; ``fault(number of the write)`` may raise before it, ``after`` it likewise."""

    def __init__(self, client, *, before=None, after=None) -> None:
        self._client, self._before, self._after = client, before, after
        self.calls: Counter[str] = Counter()
        self.writes = 0

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **kwargs):
            self.calls[name] += 1
            writes = name in WRITES
            self.writes += writes
            if writes and self._before:
                self._before(self.writes)
            answer = method(*args, **kwargs)
            if writes and self._after:
                self._after(self.writes)
            return answer

        return call


class NoClient:
    """Any use is a failure of the test."""

    def __getattr__(self, name):
        raise AssertionError(f"the store was asked: {name}")


def at(number: int, error: BaseException):
    """A fault that raises at the write of that number."""

    def fault(write: int) -> None:
        if write == number:
            raise error

    return fault


class MemoryStore:
    """As much of an MLflow client as the mirror uses, in memory: for tests that start over hundreds of times.

    Unlike MLflow's own SQL store it keeps equal points twice, so that nothing hides a doubled delivery.
    """

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, SimpleNamespace] = {}

    def clone(self) -> MemoryStore:
        return copy.deepcopy(self)

    def get_experiment_by_name(self, name):
        if name in self.experiments:
            return SimpleNamespace(experiment_id=self.experiments[name], lifecycle_stage="active")
        return None

    def create_experiment(self, name, artifact_location=None, tags=None):
        assert name not in self.experiments
        self.experiments[name] = str(len(self.experiments) + 1)
        return self.experiments[name]

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = SimpleNamespace(
            info=SimpleNamespace(run_id=run_id, lifecycle_stage="active"),
            name=run_name, tags=dict(tags), params={}, points=[], status="RUNNING", inputs=set(), artifacts=set(),
        )  # fmt: skip
        return self.runs[run_id]

    def search_runs(self, experiments, filter_string, view, max_results):
        token = filter_string.split("'")[1]
        return [run for run in self.runs.values() if run.tags["dino.mirror"] == token]

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        run = self.runs[run_id]
        assert len(metrics) <= 1000
        for param in params:
            assert run.params.setdefault(param.key, param.value) == param.value, "params cannot change"
        run.tags |= {tag.key: tag.value for tag in tags}
        run.points += [(metric.key, metric.step, metric.value) for metric in metrics]

    def get_metric_history(self, run_id, key):
        return [SimpleNamespace(step=step) for name, step, _ in self.runs[run_id].points if name == key]

    def log_inputs(self, run_id, datasets):
        self.runs[run_id].inputs |= {entry.dataset.name for entry in datasets}

    def log_artifact(self, run_id, path, folder=None):
        self.runs[run_id].artifacts.add(path)

    def set_terminated(self, run_id, status, end_time):
        self.runs[run_id].status = status

    def update_run(self, run_id, status=None, name=None):
        self.runs[run_id].status = status or self.runs[run_id].status
        self.runs[run_id].name = name or self.runs[run_id].name

    def delete_tag(self, run_id, key):
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        if key not in self.runs[run_id].tags:
            raise MlflowException("no such tag", RESOURCE_DOES_NOT_EXIST)
        del self.runs[run_id].tags[key]

    def delete_run(self, run_id):
        self.runs[run_id].info.lifecycle_stage = "deleted"

    def image(self):
        """Everything that must not depend on how often a mirror died, by the run's name."""
        image = {}
        for run in self.runs.values():
            if run.info.lifecycle_stage == "active":
                assert run.name not in image, f"{run.name} stands twice"
                tags = {key: run.tags[key] for key in run.tags if key not in ("dino.mirror", "mlflow.parentRunId")}
                image[run.name] = (Counter(run.points), tags, run.params, run.status, run.inputs, run.artifacts)
        return image
