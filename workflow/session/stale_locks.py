"""Locks that a killed Snakemake left behind, removed when that is certain.

Snakemake locks the files of a run by marks in `.snakemake/locks`, which outlive a ``kill -9`` or a power cut: the next
call then stops with a LockException until somebody runs ``snakemake --unlock``. Here each call also holds a lock of the
operating system on a file of its own, which dies with it; so marks whose every owner is dead, on this host, are stale.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

_held: list[int] = []


def claim(folder: Path = Path(".snakemake")) -> None:
    """Register this process as a possible owner of locks, until it ends."""
    owners = folder / "owners"
    owners.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(owners / f"{socket.gethostname()}-{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks: then nothing is ever called stale
        os.close(descriptor)
        (owners / f"{socket.gethostname()}-{os.getpid()}").unlink(missing_ok=True)
        return
    _held.append(descriptor)  # kept open, and so locked, for the life of the process


def remove_stale(folder: Path = Path(".snakemake")) -> bool:
    """Remove Snakemake's locks if every process that could own them was one of ours, here, and is dead.

    Returns whether locks were removed. Call it before `claim`.
    """
    locks = sorted((folder / "locks").glob("*.lock"))
    owners = sorted((folder / "owners").glob("*"))
    dead = [owner for owner in owners if owner.name.startswith(f"{socket.gethostname()}-") and not _is_held(owner)]
    stale = bool(locks) and bool(dead) and len(dead) == len(owners)
    if stale:
        for lock in locks:
            lock.unlink(missing_ok=True)
    if stale or not locks:
        for owner in dead:
            owner.unlink(missing_ok=True)
    return stale


def _is_held(owner: Path) -> bool:
    try:
        descriptor = os.open(owner, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
