"""One pass over one run: what its directory says and MLflow does not show yet is sent."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dino.log import logger
from dino.tracking.describe import EvaluationImage, RunImage, describe_evaluation
from dino.tracking.state import ChildState, State, StreamState, save_state
from dino.tracking.stream import deliver_stream

STREAMS = {"metrics.jsonl": "", "system.jsonl": "system/"}
"""Journals of a run directory, and what is put before their metrics' names."""
TOKEN_TAG = "dino.mirror"


@dataclass
class Delivered:
    """How much was sent."""

    points: int = 0
    evaluations: int = 0
    runs: int = 0
    """Runs of which anything was sent."""

    def __iadd__(self, other: Delivered) -> Delivered:
        self.points += other.points
        self.evaluations += other.evaluations
        self.runs += other.runs
        return self


@dataclass
class Delivery:
    """One pass over one run; ``state`` follows what has arrived, and is on disk before each thing that must be once."""

    client: Any
    experiment: Callable[[str], str]
    """Id of the experiment of that name."""
    run_dir: Path
    image: RunImage
    state: State
    evaluations: int = 0

    def run(self) -> Delivered:
        """Send what is new: the run, its curves, its evaluations, its files, and last its status."""
        run_id = self._open_run()
        self._describe(run_id)
        points = 0
        for name, prefix in STREAMS.items():
            path = self.run_dir / name
            if path.exists():
                stream = self.state.streams.setdefault(name, StreamState())
                points += deliver_stream(
                    path, stream, client=self.client, run_id=run_id, prefix=prefix, save=self._save
                )
        for path in metrics_files(self.run_dir):
            self._deliver_evaluation(run_id, path)
        self._deliver_artifacts(run_id)
        self._deliver_status(run_id)
        return Delivered(points, self.evaluations, 1)

    def _save(self) -> None:
        save_state(self.run_dir, self.state)

    def _open_run(self) -> str:
        """The id of the run's image, which is created at the first delivery and continued ever after."""
        state, image = self.state, self.image
        if state.run_id is None:
            state.fingerprint = image.fingerprint
            if state.creating is None:
                state.experiment_id = self.experiment(image.experiment)
            state.run_id = self._create(state, image.name, image.tags, image.start_ms)
            state.name, state.tags, state.status = image.name, image.tags, "RUNNING"
            self._save()
        return state.run_id

    def _create(self, holder: State | ChildState, name: str, tags: dict[str, str], start_ms: int) -> str:
        """Create a run once: it carries a token by which it is found if the mirror died before it heard the answer."""
        from mlflow.entities import ViewType

        if holder.creating is None:
            holder.creating = secrets.token_hex(8)
            self._save()
        else:
            found = self.client.search_runs(
                [self.state.experiment_id], f"tags.`{TOKEN_TAG}` = '{holder.creating}'", ViewType.ALL, 1
            )
            if found:
                holder.creating = None
                return str(found[0].info.run_id)
        run = self.client.create_run(
            self.state.experiment_id,
            start_time=start_ms,
            tags={**tags, TOKEN_TAG: holder.creating},
            run_name=name,
        )
        holder.creating = None
        return str(run.info.run_id)

    def _describe(self, run_id: str) -> None:
        from mlflow.entities import Param

        state, image = self.state, self.image
        state.name, state.tags = self._rename(run_id, state, image.name, image.tags)
        params = {key: value for key, value in image.params.items() if state.params.get(key) != value}
        self._send_params(run_id, [Param(key, value) for key, value in params.items()])
        state.params |= params
        if image.dataset is not None:
            self._deliver_dataset(run_id, image.dataset, "training")

    def _rename(
        self, run_id: str, holder: State | ChildState, name: str, tags: dict[str, str]
    ) -> tuple[str, dict[str, str]]:
        """Make the name and the tags of a run those given; tags that we set before and that no longer hold go."""
        from mlflow.entities import RunTag
        from mlflow.exceptions import MlflowException

        changed = [RunTag(key, value) for key, value in tags.items() if holder.tags.get(key) != value]
        if changed:
            self.client.log_batch(run_id, tags=changed)
        for key in holder.tags.keys() - tags.keys():
            try:
                self.client.delete_tag(run_id, key)
            except MlflowException as error:  # gone already: a mirror was killed just after it had deleted it
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        if holder.name != name:
            self.client.update_run(run_id, name=name)
        return name, tags

    def _send_params(self, run_id: str, params: list[Any]) -> None:
        for start in range(0, len(params), 100):  # what MLflow takes in one call
            self.client.log_batch(run_id, params=params[start : start + 100])

    def _deliver_dataset(self, run_id: str, dataset: tuple[str, str], context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        name, digest = dataset
        key = f"{context} {name} {digest}"
        if context == "training" and key in self.state.datasets:
            return
        source = json.dumps({"name": name, "digest": digest})
        # MLflow keeps 36 characters of a digest; the whole one stands in the source.
        entity = Dataset(name=name, digest=digest[:36], source_type="local", source=source)
        inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
        try:
            self.client.log_inputs(run_id, datasets=inputs)
        except MlflowException as error:
            # MLflow looks whether it knows a data set and then inserts it: of two mirrors that bring a new one at once
            # the slower is refused, and finds it there the second time.
            if error.error_code != "BAD_REQUEST":
                raise
            self.client.log_inputs(run_id, datasets=inputs)
        if context == "training":
            self.state.datasets.append(key)

    def _deliver_evaluation(self, parent: str, path: Path) -> None:
        """Bring one metrics file to its child run and its headline numbers to the parent.

        A changed file gets a new child, since MLflow's params cannot change; the old child goes to the trash.
        """
        from mlflow.entities import Param

        image = describe_evaluation(path)
        child = self.state.children.setdefault(image.protocol, ChildState())
        name = f"{self.image.short_name} · {image.protocol}"
        inherited = {
            key: value
            for key, value in self.image.tags.items()
            if not key.startswith("mlflow.") and key not in ("collapse", "message", "host", "slurm.job_id")
        }
        tags = {**inherited, **image.tags, "mlflow.parentRunId": parent}
        if child.run_id and (child.sha256 or child.sending) and image.sha256 not in (child.sha256, child.sending):
            self._trash_superseded(child)
            child.superseded, child.run_id, child.sha256, child.sending = child.run_id, None, "", ""
            child.revision += 1
        if child.run_id is None:
            start_ms = image.time_ms - round(1000 * image.metrics.get("seconds", 0.0))
            child.run_id = self._create(child, name, tags, start_ms)
            child.name, child.tags = name, tags
            self._save()
        child.name, child.tags = self._rename(child.run_id, child, name, tags)
        if child.sha256 != image.sha256:
            asked = bool(child.sending)
            child.sending = image.sha256
            self._save()
            self._send_params(child.run_id, [Param(key, value) for key, value in image.params.items()])
            self._send_numbers(child.run_id, image.metrics, step=0, image=image, ask=asked)
            self._send_numbers(parent, image.headline, step=child.revision, image=image, ask=asked)
            if image.dataset is not None:
                self._deliver_dataset(child.run_id, image.dataset, "evaluation")
            self.client.set_terminated(child.run_id, "FINISHED", image.time_ms)
            child.sha256, child.sending = image.sha256, ""
            self.evaluations += 1
            self._save()
        self._trash_superseded(child)

    def _trash_superseded(self, child: ChildState) -> None:
        if child.superseded is not None:
            self.client.delete_run(child.superseded)
            child.superseded = None

    def _send_numbers(
        self, run_id: str, metrics: Mapping[str, float], *, step: int, image: EvaluationImage, ask: bool
    ) -> None:
        from mlflow.entities import Metric

        if ask:
            metrics = {
                key: value
                for key, value in metrics.items()
                if all(metric.step != step for metric in self.client.get_metric_history(run_id, key))
            }
        if metrics:
            self.client.log_batch(
                run_id, metrics=[Metric(key, value, image.time_ms, step) for key, value in metrics.items()]
            )

    def _deliver_artifacts(self, run_id: str) -> None:
        for path in self.image.artifacts:
            name = str(path.relative_to(self.run_dir))
            version = "-".join(str(number) for number in stat_of(path))
            if self.state.artifacts.get(name) == version:
                continue
            folder = None if path.parent == self.run_dir else str(path.parent.relative_to(self.run_dir))
            try:
                self.client.log_artifact(run_id, str(path), folder)
            except OSError as error:  # numbers matter more than copies of files that lie here anyway
                logger.warning("%s was not copied to MLflow's artifacts: %s", path, error)
            self.state.artifacts[name] = version

    def _deliver_status(self, run_id: str) -> None:
        if self.image.status == self.state.status:
            return
        if self.image.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, self.image.status, self.image.end_ms)
        self.state.status = self.image.status


def metrics_files(run_dir: Path) -> list[Path]:
    """The run's evaluations."""
    return sorted(path for path in (run_dir / "metrics").glob("*.json") if not path.name.startswith("."))


def stat_of(path: Path | os.DirEntry[str]) -> tuple[int, int]:
    """Size and time of change (ns); zeros where there is no file."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)
