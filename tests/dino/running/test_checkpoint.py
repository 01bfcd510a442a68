from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.errors import UserError
from dino.running import checkpoint
from dino.running.checkpoint import CheckpointFolder, read_checkpoint, write_checkpoint


def state(step: int, fingerprint: str = "aaaa") -> dict[str, Any]:
    return {
        "step": step,
        "fingerprint": fingerprint,
        "run_id": f"run-{fingerprint}",
        "weights": torch.full((5000,), step),
    }


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path, "aaaa")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("dino"), "propagate", True)
    return caplog


def test_the_last_two_are_kept_and_the_newest_is_used(folder: CheckpointFolder) -> None:
    for step in (3, 20, 100):
        folder.save(state(step))
    assert [step for step, _ in folder.partials()] == [100, 20]
    newest = folder.newest()
    assert newest is not None
    assert newest["step"] == 100
    assert newest["weights"].tolist() == [100] * 5000


def test_what_a_killed_process_left_half_written_is_removed(folder: CheckpointFolder) -> None:
    folder.save(state(1))
    (folder.folder / ".step-00000002.77-abcd.tmp.pth").write_bytes(b"half")
    assert folder.newest() is not None
    folder.save(state(3))
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-00000001.pth", "step-00000003.pth"]


def test_an_empty_folder_has_none(folder: CheckpointFolder) -> None:
    assert folder.newest() is None
    assert not folder.is_finished()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before(
    folder: CheckpointFolder, damage: str, warnings: pytest.LogCaptureFixture
) -> None:
    folder.save(state(1))
    path = folder.save(state(2))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b""}.get(damage, content))
    newest = folder.newest()
    assert newest is not None
    assert newest["step"] == 1
    assert str(path) in warnings.text


def test_another_fingerprint_is_refused_by_both_names(folder: CheckpointFolder) -> None:
    CheckpointFolder(folder.run_dir, "bbbb").save(state(1, "bbbb"))
    with pytest.raises(UserError, match=r"bbbb.*aaaa"):
        folder.newest()
    CheckpointFolder(folder.run_dir, "bbbb").finish(state(2, "bbbb"))
    with pytest.raises(UserError, match=r"bbbb.*aaaa"):
        folder.is_finished()


def test_finishing_writes_the_final_file_last_and_keeps_its_work_if_that_is_deleted(folder: CheckpointFolder) -> None:
    folder.save(state(1))
    folder.finish(state(2))
    assert folder.is_finished()
    assert read_checkpoint(folder.final)["step"] == 2
    folder.final.unlink()
    newest = folder.newest()
    assert newest is not None
    assert newest["step"] == 2


def test_finishing_works_where_links_do_not(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "links are not supported here")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    folder.finish(state(2))
    assert read_checkpoint(folder.final)["step"] == 2


def test_a_damaged_final_file_is_made_again(folder: CheckpointFolder, warnings: pytest.LogCaptureFixture) -> None:
    folder.final.write_bytes(b"half a file")
    assert not folder.is_finished()
    assert "checkpoint.pth" in warnings.text


def test_a_full_disk_is_one_sentence_and_older_checkpoints_stay(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(state(1))
    real = open

    class FullDisk:
        def __init__(self, *arguments: Any) -> None:
            self.file = real(*arguments)

        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, block: bytes) -> int:
            if len(block) > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(block)

        def flush(self) -> None:
            self.file.flush()

    monkeypatch.setattr(checkpoint, "open", FullDisk, raising=False)
    with pytest.raises(UserError, match="no space left"):
        folder.save(state(2))
    monkeypatch.undo()
    assert [step for step, _ in folder.partials()] == [1]
    assert [path.name for path in folder.folder.iterdir()] == ["step-00000001.pth"]


def test_a_foreign_or_newer_file_is_refused(tmp_path: Path) -> None:
    torch.save({"student": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        read_checkpoint(tmp_path / "other.pth")
    write_checkpoint(tmp_path / "new.pth", {"version": 99})
    with pytest.raises(UserError, match="99"):
        read_checkpoint(tmp_path / "new.pth")


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": checkpoint.FORMAT, "version": 1, "bomb": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(tmp_path / "bomb.pth")
    assert not (tmp_path / "executed").exists()
