"""Files that are either whole or absent: temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dino.errors import UserError


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it is synced and renamed to ``target``.

    On any exception the temporary file is removed and ``target`` is left as it was.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    target = Path(target)
    # The suffix stays last: numpy and matplotlib choose the format by it.
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        _remove(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left for {target}: free some, then run the same command again (nothing was lost)"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise UserError(
                f"cannot write {target}: {error.strerror}; choose a folder that you may write to"
            ) from error
        raise
    except BaseException:
        _remove(temporary)
        raise


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``target`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, atomically."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_text_if_changed(target: str | os.PathLike[str], text: str) -> bool:
    """Write only where the content differs, so that an untouched file keeps its time. Returns whether it wrote."""
    target = Path(target)
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return False
    write_text(target, text)
    return True


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remove(temporary: Path) -> None:
    # Nothing to remove where not even the folder could be made; the first error is the one to report.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost with the machine's power.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems refuse to sync a directory
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
