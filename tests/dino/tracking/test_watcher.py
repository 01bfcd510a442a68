"""Stopping a watcher; `tests/dino/commands/test_sync.py` starts one."""

from __future__ import annotations

import subprocess
import sys
import time

from dino.tracking.watcher import stop_watcher


def sleeper(handler: str) -> subprocess.Popen[bytes]:
    code = f"import signal, sys, time; signal.signal(signal.SIGTERM, {handler}); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()  # the handler stands
    return process


def test_it_is_asked_for_a_last_pass_and_waited_for() -> None:
    process = sleeper("lambda *_: sys.exit(0)")
    assert stop_watcher(process, seconds=20) is None
    assert process.returncode == 0


def test_one_that_failed_or_hangs_stops_nobody() -> None:
    assert stop_watcher(sleeper("lambda *_: sys.exit(3)"), seconds=20) == "the watcher ended with status 3"
    process = sleeper("signal.SIG_IGN")
    start = time.monotonic()
    assert "has not taken all points" in str(stop_watcher(process, seconds=0.2))
    assert time.monotonic() - start < 10
    process.kill()
    process.wait()
