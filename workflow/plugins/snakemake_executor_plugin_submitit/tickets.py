"""Tickets: one small file a submitted job, by which a Snakemake that was killed finds its jobs again.

A ticket is written before the submission (without a job id) and completed after it, so that there is no moment at which
a job exists and nothing on disk says so. It is removed when Snakemake has been told of the job's end.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = 1
# (path, size in bytes, modification time in ns) of each input: a job that read other inputs is not adopted
InputState = list[list[Any]]


@dataclass
class Ticket:
    """A job as it was submitted."""

    key: str
    name: str  # of the submission, unique: the job's name in the queue and the folder of its files
    cluster: str
    host: str
    tasks: int
    rule: str
    outputs: list[str]
    inputs: InputState
    index: int | None = None  # within an array
    job_id: str | None = None  # None: submitted or not, the submitter did not live to know
    process_started: float | None = None  # local cluster: tells a process from a later one with its number
    created: float = field(default_factory=time.time)
    nested: bool = False
    version: int = VERSION

    def full_id(self, base: str) -> str:
        """Return the job's id, given the id of its submission."""
        return base if self.index is None else f"{base}_{self.index}"


def job_key(
    *,
    directory: str,
    rule: str,
    wildcards: Mapping[str, str],
    outputs: Iterable[str],
    command: str,
    params: Sequence[Any],
) -> str:
    """Return the identity of a job: what it makes and how. Resources, threads and attempt are no part of it."""
    document = [directory, rule, sorted(wildcards.items()), sorted(map(str, outputs)), command]
    document.append(sorted(map(_stable, params)))
    return hashlib.sha1(json.dumps(document).encode(), usedforsecurity=False).hexdigest()


def input_state(paths: Iterable[str]) -> InputState:
    """Return size and time of the inputs that are files; directories change with every look into them."""
    state: InputState = []
    for path in sorted(set(map(str, paths))):
        if os.path.isfile(path):
            found = os.stat(path)
            state.append([path, found.st_size, found.st_mtime_ns])
    return state


def read_the_same(earlier: Ticket, now: Ticket) -> bool:
    """Return whether an earlier job read the inputs that the same job would read now.

    The lists may differ: there are workflows whose jobs no longer name an input once their outputs are there. An input
    that the earlier job did not name must be older than its submission. What a shell line says of its inputs is in the
    job's key; a script may count them, so there the lists must be the same.
    """
    if now.nested:
        return earlier.inputs == now.inputs
    named = {path for path, *_ in earlier.inputs}
    return all(
        entry in earlier.inputs or (entry[0] not in named and entry[2] < earlier.created * 1e9) for entry in now.inputs
    )


class TicketStore:
    """The folder of tickets; every write is a rename, so a reader never sees half of one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return where the ticket of a job is kept."""
        return self.folder / f"{key}.json"

    def claim_path(self, name: str, index: int | None) -> Path:
        """Return where the job itself notes its id when it starts (see ``RuleCommand.claim``)."""
        return self.folder / f"{name}{'' if index is None else f'-{index}'}.claim"

    def write(self, ticket: Ticket) -> None:
        """Create or replace a ticket."""
        temporary = self.folder / f".{ticket.key}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(asdict(ticket)))
        os.replace(temporary, self.path(ticket.key))

    def read(self, key: str) -> Ticket | None:
        """Return a job's ticket; None where there is none or it cannot be read (another version, a torn disk)."""
        try:
            fields = json.loads(self.path(key).read_text())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(fields, dict) or fields.get("version") != VERSION:
            return None
        return Ticket(**fields)

    def read_all(self) -> list[Ticket]:
        """Return all readable tickets."""
        found = (self.read(path.stem) for path in self.folder.glob("*.json"))
        return [ticket for ticket in found if ticket is not None]

    def claimed_id(self, ticket: Ticket) -> str | None:
        """Return the job id that the job noted when it started, None while it has not."""
        try:
            return self.claim_path(ticket.name, ticket.index).read_text() or None
        except FileNotFoundError:
            return None

    def remove(self, ticket: Ticket) -> None:
        """Forget a job."""
        self.path(ticket.key).unlink(missing_ok=True)
        self.claim_path(ticket.name, ticket.index).unlink(missing_ok=True)


def _stable(value: Any) -> str:
    """Return text that is equal in two processes for equal values: sets sorted, objects by their type only."""
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_stable, value)))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_stable, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_stable(k)}: {_stable(v)}' for k, v in value.items()))}}}"
    if value is None or isinstance(value, (str, bytes, int, float, complex, bool, range)):
        return repr(value)
    return type(value).__name__
