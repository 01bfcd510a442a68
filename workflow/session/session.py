"""One call of `snakemake`: its settings, its planner, and what happens at its start and end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from dino.errors import UserError
from dino.files import write_json
from dino.tracking.environment import commit_in_words, machine_in_words
from dino.tracking.watcher import LOG, start_watcher, stop_watcher
from workflow.inputs.call import Settings, read_settings
from workflow.planning.plan import Plan
from workflow.planning.planner import Planner
from workflow.session import stale_locks
from workflow.session.warm import WarmProcesses, warm_starts_work


class Session:
    """What the Snakefile's handlers need."""

    def __init__(self, settings: Settings, planner: Planner):
        self.settings = settings
        self.planner = planner
        self.watchers: dict[Path, subprocess.Popen[bytes]] = {}
        """`dino sync --watch` of each folder of results."""
        self.warm: WarmProcesses | None = None
        self._started = time.time()

    @classmethod
    def open(cls, config: Mapping[str, Any], *, root: Path, main: bool) -> Session:
        """Check the settings and plan the configured studies; ``main`` is false in a job's own Snakemake.

        Raises:
            WorkflowError: A mistake of a person's, in the words of the `UserError`.
        """
        _put_environment_on_path()
        try:
            settings = read_settings(config)
            session = cls(settings, Planner(root=root, settings=settings))
            _ = session.planner.plans.configured
        except UserError as error:
            raise WorkflowError(str(error)) from None
        if main:
            if stale_locks.remove_stale():
                _say("Locks of a run that was killed have been removed; going on from what it left.")
            stale_locks.claim()
        return session

    def start(self, *, jobs_are_local: bool) -> None:
        """Start what runs beside the jobs: warm processes, and the tracking watcher with people's names of the runs."""
        if jobs_are_local and self.settings.warm == "on" and warm_starts_work():
            self.warm = WarmProcesses.start()
        for plan in self.planner.plans.made:
            results = Path("results") / plan.scale.name
            names = results / "runs" / "names.json"
            write_json(names, merge_names(_read_names(names), plan))
            if self.settings.tracking == "on" and results not in self.watchers:
                self.watchers[results] = start_watcher(results, names=names, log=results / "logs" / LOG)

    def finish(self, *, failed: bool = False) -> None:
        """Wait for the last points to be delivered, and say where the results are."""
        if self.warm is not None:
            self.warm.stop()
        for results, watcher in self.watchers.items():
            if problem := stop_watcher(watcher):
                by_hand = f"`dino sync {results}` delivers what is missing; see {results / 'logs' / LOG}"
                _say(f"tracking: {problem}. {by_hand}")
        if failed:
            _say("Some jobs failed; their logs stand above. What is done is kept: the same command again goes on.")
        for plan in self.planner.plans.made:
            self._record(Path("results") / plan.scale.name, failed=failed)
            report = Path("results") / plan.scale.name / "report" / "index.html"
            if report.is_file():
                _say(f"Report: {report}")

    def _record(self, results: Path, *, failed: bool) -> None:
        """Append what this call was to ``sessions.jsonl``: the provenance of the numbers it made."""
        record = {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._started)),
            "seconds": round(time.time() - self._started, 1),
            "failed": failed,
            "commit": commit_in_words(self.planner.plans.root),
            "machine": machine_in_words(),
        }
        with open(results / "sessions.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")


def merge_names(old: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The names of ``plan``, with those that studies outside it gave to runs before."""
    merged = {run: dict(entry) for run, entry in old.items()}
    for entry in merged.values():
        entry["names"] = [name for name in entry["names"] if name["study"] not in plan.studies]
    for run, entry in plan.names().items():
        earlier = merged.get(run, {}).get("names", [])
        merged[run] = {**entry, "names": [*entry["names"], *earlier]}
    return {run: entry for run, entry in merged.items() if entry["names"]}


def _read_names(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError):
        _say(f"{path} was not readable and is written anew.")
        return {}


def _put_environment_on_path() -> None:
    # Jobs call `dino` and `python`: those of this environment, also where it is not activated.
    folders = os.environ.get("PATH", "").split(os.pathsep)
    own = str(Path(sys.executable).parent)
    if own not in folders:
        os.environ["PATH"] = os.pathsep.join([own, *folders])


def _say(text: str) -> None:
    print(text, file=sys.stderr)
