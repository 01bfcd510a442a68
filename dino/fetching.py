"""One file from the network (or from a disk) to its place: resumed where it stopped, checked, whole or absent.

The bytes go to ``<file>.part`` beside the target. A later call goes on from its end (HTTP Range), guarded by the
server's entity tag, and the finished file is renamed only after its hash has been checked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import math
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dino.errors import UserError
from dino.files import sha256_file, write_json
from dino.log import logger, track

BLOCK = 1 << 20
TIMEOUT_SECONDS = 30
ATTEMPTS = 3
"""Of a connection that breaks; each goes on where the last one stopped."""

_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
_CHECKPOINT_BEGINNINGS = (b"PK", b"\x80")
"""Of a torch file: a zip archive, or before torch 1.6 a pickle."""


@dataclass(frozen=True)
class Fetched:
    """What was brought."""

    path: Path
    sha256: str
    bytes: int


def fetch_file(source: str, target: Path, *, sha256: str = "", name: str = "") -> Fetched:
    """Bring ``source`` to ``target``.

    Args:
        source: A URL, or a file of this machine.
        target: Where it goes; a record of source and hash is written beside it (``<target>.json``).
        sha256: The hash, or its first digits; empty where none is known.
        name: What it is called in messages.

    Raises:
        UserError: The network or the server fails (what was brought is kept, and the message names the way by hand),
            the file has another hash, is no checkpoint, or cannot be written.
    """
    name = name or target.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(target) as (part, handle):
            if Path(source).is_file():
                handle.truncate(0)
                with open(source, "rb") as local:
                    shutil.copyfileobj(local, handle, BLOCK)
            else:
                _download(source, part, handle, name=name, target=target)
            handle.flush()
            os.fsync(handle.fileno())
            fetched = _check(source, part, sha256=sha256, name=name)
            os.replace(part, target)
            _tag_of(part).unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left for {target}: free some, then run the same command again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"cannot write {target}: {error.strerror}; choose another --folder") from error
        raise
    record = {"name": name, "source": source, "sha256": fetched.sha256, "published_sha256": sha256}
    write_json(target.with_name(f"{target.name}.json"), record)
    return Fetched(target, fetched.sha256, fetched.bytes)


@contextlib.contextmanager
def _part_of(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The partial file, opened at its end and locked against a second download of the same."""
    part = target.with_name(f"{target.name}.part")
    with open(part, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{part} is being written by another `dino fetch`: wait for it") from None
        try:
            yield part, handle
        finally:
            handle.flush()
            if part.is_file() and not part.stat().st_size:
                part.unlink()


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _download(url: str, part: Path, handle: BinaryIO, *, name: str, target: Path) -> None:
    """Append what is missing; a broken connection is tried again from there."""
    by_hand = f"fetch {url} by hand to {target}, or name a file or mirror with --url"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _transfer(url, part, handle, name=name):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(f"{url} answers {error.code} ({error.reason}): {by_hand}") from None
            reason = f"the server answers {error.code}"
        except _NETWORK_ERRORS as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
        except ValueError:
            raise UserError(f"'{url}' is neither a file nor a URL") from None
        if attempt < ATTEMPTS:
            logger.info("%s: %s; trying again (%d of %d)", name, reason, attempt + 1, ATTEMPTS)
    kept = handle.seek(0, os.SEEK_END)
    progress = f" after {kept / 2**20:.1f} MiB, which are kept: run the same command to go on" if kept else ""
    raise UserError(f"cannot fetch {name}{progress} ({reason}); without a network, {by_hand}")


def _transfer(url: str, part: Path, handle: BinaryIO, *, name: str) -> bool:
    """One connection; returns whether the file is whole now."""
    have = handle.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "dino-fetch"})
    tag = _tag_of(part)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.is_file():  # another file by now: the server then sends all of it
            request.add_header("If-Range", tag.read_text(encoding="ascii"))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what is here: whole, or longer than the file
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            handle.truncate(0)
            return False
        raise
    with response:
        if have and getattr(response, "status", None) != 206:
            handle.truncate(0)
            have = 0
        if etag := response.headers.get("ETag"):
            tag.write_text(etag, encoding="ascii", errors="ignore")
        length = response.headers.get("Content-Length")
        expected = have + int(length) if length is not None else None
        blocks = iter(lambda: response.read(BLOCK), b"")
        total = math.ceil((expected or 0) / BLOCK) - have // BLOCK
        for block in track(blocks, what=f"{name} (MiB)", total=total):
            handle.write(block)
        handle.flush()
    return expected is None or handle.tell() == expected


def _check(source: str, part: Path, *, sha256: str, name: str) -> Fetched:
    """Hash and beginning of the whole partial file; one that is wrong is removed."""
    size = part.stat().st_size
    found = sha256_file(part)
    with open(part, "rb") as handle:
        beginning = handle.read(16)
    problem = ""
    if sha256 and not found.startswith(sha256.lower()):
        problem = f"its SHA-256 is {found}, published is {sha256}{'...' if len(sha256) < 64 else ''}"
    elif not beginning.startswith(_CHECKPOINT_BEGINNINGS):
        problem = f"it is no PyTorch file (it begins with {beginning!r})"
    if problem:
        part.unlink()
        _tag_of(part).unlink(missing_ok=True)
        raise UserError(f"{source} is not {name}: {problem}; it was not kept")
    return Fetched(part, found, size)
