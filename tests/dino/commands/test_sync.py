"""``dino sync``, as a person and as a workflow call it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dino.cli import main
from dino.config import build_config, dump_config, run_id
from dino.running.journal import Journal
from dino.tracking.store import open_client
from dino.tracking.watcher import start_watcher


@pytest.fixture(scope="module")
def template_database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def run_dir(tmp_path, monkeypatch, template_database) -> Path:
    """A run of 20 steps in ``results/smoke``, seen from the project's folder, whose store is empty."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(template_database, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = build_config({"dataset": "world"})
    folder = tmp_path / "results" / "smoke" / "runs" / run_id(config)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    log(folder, 1, 20)
    return folder


def log(run_dir: Path, first: int, last: int) -> None:
    with Journal(run_dir) as journal:
        for step in range(first, last + 1):
            journal.log(step, step / 10, {"loss": 1.0 / step})


def delivered_steps(database: Path) -> list[int]:
    if not database.exists():
        return []
    with sqlite3.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT step FROM metrics WHERE key = 'loss' ORDER BY step")]


def statuses(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT status FROM runs")]


def wait_for(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


def test_delivers_once_and_says_so(run_dir, tmp_path, capsys):
    (tmp_path / "mlflow.db").unlink()  # it makes one where there is none
    assert main(["sync", "results/smoke"]) == 0
    assert "delivered 20 points and 0 evaluations of 1 run to sqlite:///" in capsys.readouterr().err
    assert main(["sync", "results"]) == 0
    assert "nothing to deliver" in capsys.readouterr().err
    assert delivered_steps(tmp_path / "mlflow.db") == list(range(1, 21))
    state = json.loads((run_dir / "mlflow.json").read_text())
    assert state["delivered_step"] == 20
    assert state["run_id"]
    assert state["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_second_sync_does_not_even_import_mlflow(run_dir, tmp_path):
    assert main(["sync", "results/smoke", "--quiet"]) == 0
    code = "import sys; from dino.cli import main; main(['sync', 'results/smoke']); sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_a_dead_server_is_one_sentence_and_exit_status_2(run_dir, capsys):
    assert main(["sync", "results/smoke", "--tracking-uri", "http://127.0.0.1:9"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message == (
        "dino sync: the tracking store http://127.0.0.1:9 takes nothing now (connection refused): "
        "20 points and 0 evaluations of 1 run wait in the run directories, nothing is lost; "
        "when it is back, run `dino sync results/smoke`"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "no runs in nowhere"),
        (["results/smoke", "--names", "no.json"], "--names no.json: no such file"),
        (["results/smoke", "--tracking-uri", "mlruns"], "MLflow 3 keeps no runs in plain folders"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_status_2(run_dir, capsys, arguments, sentence):
    assert main(["sync", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (run_dir / "mlflow.json").exists()


def test_a_damaged_file_is_told_and_the_exit_status_2(run_dir, tmp_path, capsys):
    (run_dir / "metrics").mkdir()
    (run_dir / "metrics" / "knn.json").write_text("{")
    assert main(["sync", "results/smoke"]) == 2
    assert "knn.json: not a metrics file" in capsys.readouterr().err
    assert delivered_steps(tmp_path / "mlflow.db") == list(range(1, 21))


def test_a_watch_follows_the_run_and_sigterm_brings_the_last_points(run_dir, tmp_path):
    database = tmp_path / "mlflow.db"
    command = [sys.executable, "-m", "dino", "sync", "--watch", "results/smoke", "--interval", "0.2"]
    watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: len(delivered_steps(database)) == 20)
        log(run_dir, 21, 30)
        wait_for(lambda: len(delivered_steps(database)) == 30)
        assert statuses(database) == ["RUNNING"]
        os.kill(watcher.pid, signal.SIGSTOP)  # the job logs its end while the watcher looks away
        log(run_dir, 31, 35)
        (run_dir / "status.json").write_text('{"status": "finished"}')
        watcher.send_signal(signal.SIGTERM)
        os.kill(watcher.pid, signal.SIGCONT)
        _, said = watcher.communicate(timeout=120)
    finally:
        watcher.kill()
    assert watcher.returncode == 0, said
    assert "delivered 35 points" in said
    assert delivered_steps(database) == list(range(1, 36))
    assert statuses(database) == ["FINISHED"]


def test_a_started_watcher_outlives_its_parent_for_one_pass(run_dir, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watcher = start_watcher(run_dir, parent=parent.pid)
    try:
        assert os.getsid(watcher.pid) != os.getsid(os.getpid())
        parent.communicate()
        assert watcher.wait(timeout=120) == 0
    finally:
        watcher.kill()
        watcher.wait()
    assert delivered_steps(tmp_path / "mlflow.db") == list(range(1, 21))
    assert "all there is" in (run_dir / "sync.log").read_text()


def test_a_watcher_whose_server_is_dead_leaves_with_what_waits(run_dir, tmp_path):
    command = [sys.executable, "-m", "dino", "sync", "--watch", "results/smoke", "--tracking-uri", "http://127.0.0.1:9"]
    watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert "mirroring" in watcher.stderr.readline()
        assert "takes nothing now" in watcher.stderr.readline()
        watcher.send_signal(signal.SIGTERM)
        _, said = watcher.communicate(timeout=120)
    finally:
        watcher.kill()
    assert watcher.returncode == 2
    assert "20 points" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_server_that_comes_later_gets_everything_once(run_dir, tmp_path, monkeypatch):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri, database = f"http://127.0.0.1:{port}", tmp_path / "server.db"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # a busy test machine answers slowly
    command = [sys.executable, "-m", "dino", "sync", "--watch", "results/smoke", "--tracking-uri", uri]
    command += ["--interval", "0.5", "--final-timeout", "300"]
    watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    server = None
    try:
        while "takes nothing now" not in watcher.stderr.readline():
            assert watcher.poll() is None
        serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        server = subprocess.Popen(
            [*serve, "--backend-store-uri", f"sqlite:///{database}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: is_up(port), seconds=300)
        wait_for(lambda: len(delivered_steps(database)) == 20, seconds=300)
        log(run_dir, 21, 1500)
        watcher.send_signal(signal.SIGTERM)
        _, said = watcher.communicate(timeout=330)
    finally:
        watcher.kill()
        if server is not None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert watcher.returncode == 0, said
    assert "is back" in said
    assert delivered_steps(database) == list(range(1, 1501))


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
