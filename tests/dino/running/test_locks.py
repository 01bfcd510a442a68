"""A run directory has one trainer at a time, and a killed one gives it back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dino.errors import Interrupted, UserError
from dino.running import locks
from dino.running.locks import sole_owner

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom dino.running.locks import sole_owner\n"
    "with sole_owner(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def other(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_waits_until_the_first_is_killed(tmp_path: Path, other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    entered = threading.Event()

    def second() -> None:
        with sole_owner(tmp_path):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.3), "two trainers in one directory"
    other.send_signal(signal.SIGKILL)
    assert entered.wait(20)
    thread.join()


def test_a_signal_ends_the_wait(tmp_path: Path, other) -> None:
    with pytest.raises(Interrupted, match="waiting for another process"), sole_owner(tmp_path, stop=True):
        pass


def test_a_free_directory_is_made_and_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_owner(tmp_path / "new"):
            assert (tmp_path / "new").is_dir()


def test_a_file_in_the_directorys_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="cannot write .*run: .*choose a folder"), sole_owner(tmp_path / "run"):
        pass
