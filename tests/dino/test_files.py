"""Files are whole or absent, also when the disk is full or the writer dies."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dino.errors import UserError
from dino.files import atomic_path, sha256_file, write_json, write_text, write_text_if_changed


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("boom")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no space left for .*table.csv"), atomic_path(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_really_full_disk(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match="no space left"), atomic_path(tmp_path / "x.txt") as temporary:
        temporary.symlink_to("/dev/full")
        with open(temporary, "w") as handle:
            handle.write("x")


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    code = (
        "import os, signal, sys\nfrom dino.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n    t.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert '"a": 1' in target.read_text()


def test_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "features.npz") as temporary:
        assert temporary.suffix == ".npz", "numpy appends one otherwise"
        assert temporary.parent == tmp_path, "a rename across file systems is no rename"
        temporary.write_bytes(b"x")


def test_unchanged_text_keeps_its_time(tmp_path: Path) -> None:
    target = tmp_path / "config.yaml"
    assert write_text_if_changed(target, "a")
    os.utime(target, (1, 1))
    assert not write_text_if_changed(target, "a")
    assert target.stat().st_mtime == 1
    assert write_text_if_changed(target, "b")


def test_json_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x").startswith("ba7816bf")


def test_unwritable_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "file" / "x", "y")
