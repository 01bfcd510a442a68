"""What the mirror has delivered of one run: ``mlflow.json`` in the run directory.

It is written atomically before and after each thing that must happen once. ``sending`` (of a stream) and ``creating``
are intents: they say what may or may not have reached the store when the mirror was killed in between, so that the
next one asks the store about exactly that and about nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dino.errors import UserError
from dino.files import write_json

STATE = "mlflow.json"


@dataclass
class StreamState:
    """How far one journal is delivered."""

    step: int = -1
    """Last step that surely stands in the store."""
    sending: int | None = None
    """Last step of a batch that may have arrived: of the steps in (step, sending] the store is asked before sending."""
    offset: int = 0
    """Bytes of the journal read so far."""
    anchor: int = 0
    """CRC-32 of the last line read: differs when a resumed run has rewritten the journal."""
    anchor_bytes: int = 0
    """Length of that line."""


@dataclass
class ChildState:
    """One delivered evaluation."""

    run_id: str | None = None
    creating: str | None = None
    sha256: str = ""
    """Of the metrics file as delivered."""
    sending: str = ""
    """SHA-256 of a metrics file whose numbers may have arrived: the store is asked before they are sent."""
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    revision: int = 0
    """How often the file has changed since; the step of the headline metrics on the parent."""
    superseded: str | None = None
    """An older child that is to be put in the trash."""


@dataclass
class State:
    """All that is known about the mirror image of one run in one store."""

    tracking_uri: str
    fingerprint: str = ""
    experiment_id: str | None = None
    run_id: str | None = None
    creating: str | None = None
    """Token that a run being created carries as a tag, to be found by if the answer was lost."""
    streams: dict[str, StreamState] = field(default_factory=dict)
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    status: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    children: dict[str, ChildState] = field(default_factory=dict)
    signature: str = ""
    """Of the run directory's files when all of them were delivered; an equal one means: nothing to do."""
    elsewhere: dict[str, Any] = field(default_factory=dict)
    """The states for other stores, by address, so that going back to one sends nothing twice."""


def load_state(run_dir: Path, uri: str) -> State:
    """The state for the store ``uri``; a new one where there is none.

    Raises:
        UserError: ``mlflow.json`` is not ours.
    """
    path = run_dir / STATE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        others = document.pop("elsewhere", {})
        if document.get("tracking_uri") != uri:
            others[document["tracking_uri"]] = document
            document = others.pop(uri, {"tracking_uri": uri})
        document.pop("delivered_step", None)
        streams = {name: StreamState(**value) for name, value in document.pop("streams", {}).items()}
        children = {name: ChildState(**value) for name, value in document.pop("children", {}).items()}
        return State(**document, streams=streams, children=children, elsewhere=others)
    except FileNotFoundError:
        return State(tracking_uri=uri)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it to deliver the run afresh (and its old image in MLflow, by hand)"
        ) from error


def save_state(run_dir: Path, state: State) -> None:
    """Write ``mlflow.json``; ``delivered_step`` (the training curve's) stands at the top for other readers."""
    document = asdict(state)
    document["delivered_step"] = state.streams["metrics.jsonl"].step if "metrics.jsonl" in state.streams else -1
    write_json(run_dir / STATE, document)
