"""Delivery to a real `mlflow server` on PostgreSQL: many runs by many syncs, and either server killed in the middle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Store
from .tracking_server import ASK, TrackingServer, install, why_not

pytestmark = pytest.mark.slow

DISTINCT = "SELECT count(*) FROM (SELECT DISTINCT run_uuid, key, step FROM metrics) AS points"
ALL = "SELECT count(*) FROM metrics"
RUNS = "SELECT count(*) FROM runs"

REASONS = {
    "server": "connection refused",
    "database": r"it answers with HTTP status 50\d; is the database behind it up\?",
}


@pytest.fixture(scope="module")
def running_server() -> Iterator[TrackingServer]:
    if os.environ.get(ASK) != "1":
        pytest.skip(f"servers are started and killed for minutes; `make test-tracking` ({ASK}=1) asks for it")
    reason = why_not()
    if reason:
        pytest.skip(f"no tracking server on PostgreSQL: {reason}")
    install()
    folder = Path(tempfile.mkdtemp(prefix="tracking-server-"))  # pytest's own folders are closed to PostgreSQL's user
    folder.chmod(0o711)
    server = TrackingServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def server(running_server) -> TrackingServer:
    """The server, without any run."""
    running_server.sql("TRUNCATE runs CASCADE")
    return running_server


def start_sync(server: TrackingServer, path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dino", "sync", str(path), "--tracking-uri", server.uri, *options]
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT": "100"}  # a busy machine is no dead server
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(happened: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"in {seconds:g} s it did not happen that {what}"
        time.sleep(0.1)


def points_named(output: str) -> int:
    """What a sync says that it has delivered."""
    found = re.search(r"delivered ([\d,]+) points? and", output)
    return int(found[1].replace(",", "")) if found else 0


def test_runs_of_many_jobs_delivered_by_several_syncs_at_once_arrive_whole_and_once(server, make_run, results):
    for seed in range(32):
        run = make_run(seed=seed)
        run.log(1, 100 + seed)
        run.status()
        run.evaluate(60.0)
    points = sum(2 * (100 + seed) for seed in range(32))

    syncs = [start_sync(server, results) for _ in range(4)]
    outputs = [sync.communicate(timeout=300)[0] for sync in syncs]

    assert [sync.returncode for sync in syncs] == [0] * 4, outputs
    assert sum(map(points_named, outputs)) == points
    assert sum(points_named(output) > 0 for output in outputs) > 1, "one sync did it all while the others waited"
    evaluated = 32 * (5 + 1)  # three numbers, chance and seconds; and the headline number on the pretraining
    assert int(server.sql(ALL)) == int(server.sql(DISTINCT)) == points + evaluated
    assert int(server.sql(RUNS)) == 32 + 32
    assert int(server.sql("SELECT count(*) FROM runs WHERE status = 'FINISHED'")) == 64


@pytest.mark.parametrize("victim", ["server", "database"])
def test_what_was_logged_while_a_server_was_dead_arrives_whole_and_once(server, make_run, results, victim):
    run = make_run()
    run.log(1, 8_000)
    watcher = start_sync(server, results, "--watch", "--interval", "0.5")
    try:
        until(lambda: int(server.sql(ALL)) > 0, "points arrive")
        if victim == "server":
            server.kill_server()
        else:
            server.kill_database()

        run.log(8_001, 8_100)  # the training goes on
        by_hand = start_sync(server, results)
        answer = by_hand.communicate(timeout=300)[0]
        assert by_hand.returncode == 2, answer
        assert re.search(
            rf"takes nothing now \({REASONS[victim]}\): [\d,]+ points and 0 evaluations of 1 run wait", answer
        ), answer
        assert "Traceback" not in answer

        if victim == "server":
            server.start_server()
        else:
            server.start_database()
        run.log(8_101, 8_200)
        run.status()
        until(lambda: int(server.sql(DISTINCT)) == 2 * 8_200, "the watcher delivers what waited")
    finally:
        watcher.terminate()
        output = watcher.communicate(timeout=300)[0]
    assert watcher.returncode == 0, output
    assert output.count("takes nothing now") == 1, output
    assert "the tracking store is back" in output
    assert int(server.sql(ALL)) == int(server.sql(DISTINCT)) == 2 * 8_200
    store = Store(server.uri)
    assert store.steps("loss") == list(range(1, 8_201))
    assert store.parent().info.status == "FINISHED"


def test_a_server_that_starts_again_serves_what_was_there(server, finished_run, results):
    sync = start_sync(server, results)
    assert sync.wait(timeout=300) == 0
    server.stop()
    assert not server.answers()
    server.start()
    assert Store(server.uri).steps("loss") == list(range(1, 301))


def test_nothing_listens_beyond_this_machine_and_no_password_is_in_a_command_line(server):
    import psutil

    password = (server.folder / "password").read_text().strip()
    family = [process for process in psutil.process_iter() if str(server.folder) in " ".join(_words(process))]
    assert len(family) >= 2
    assert all(password not in word for process in family for word in _words(process))
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert os.stat(server.folder / "password").st_mode & 0o077 == 0


def _words(process) -> list[str]:
    import psutil

    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
