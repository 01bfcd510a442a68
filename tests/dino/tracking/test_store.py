"""Which store is used, and first starts that do not break it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from dino.errors import UserError
from dino.tracking.store import SQLITE, ensure_experiment, import_mlflow, known_runs, open_client, resolve_tracking_uri


def test_the_default_is_a_database_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_flag_goes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000/")
    assert resolve_tracking_uri() == "http://tracking:5000"
    assert resolve_tracking_uri("sqlite:///own.db") == f"sqlite:///{tmp_path}/own.db"
    assert resolve_tracking_uri("sqlite:////data/own.db") == "sqlite:////data/own.db"


@pytest.mark.parametrize("uri", ["./mlruns", "/data/mlruns", "file:///data/mlruns", "mlruns"])
def test_plain_folders_are_refused_with_the_way_out(uri):
    with pytest.raises(UserError, match="sqlite:///"):
        resolve_tracking_uri(uri)


def test_opening_a_database_keeps_what_is_in_it(uri):
    client = open_client(uri)
    experiment = ensure_experiment(client, "dino-laptop", uri)
    run = client.create_run(experiment)
    again = open_client(uri)
    assert ensure_experiment(again, "dino-laptop", uri) == experiment
    assert known_runs(uri) == {run.info.run_id}


def test_an_experiment_in_the_trash_is_taken_out(uri):
    client = open_client(uri)
    experiment = ensure_experiment(client, "dino-laptop", uri)
    client.delete_experiment(experiment)
    assert ensure_experiment(client, "dino-laptop", uri) == experiment
    assert client.get_experiment(experiment).lifecycle_stage == "active"


def test_runs_of_a_store_that_is_not_there_are_none(tmp_path):
    assert known_runs(f"{SQLITE}{tmp_path}/no.db") == set()
    assert known_runs("http://127.0.0.1:9") is None


def _open_and_create(uri: str, name: str) -> None:
    client = open_client(uri)
    client.create_run(ensure_experiment(client, "dino-laptop", uri), run_name=name)


def _fork(target, *arguments):
    import_mlflow()  # once, for all the forks
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_processes_that_start_together_share_one_sound_database(tmp_path):
    uri = f"{SQLITE}{tmp_path}/fresh.db"
    processes = [_fork(_open_and_create, uri, f"run {number}") for number in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert len(known_runs(uri)) == 4
    assert len(open_client(uri).search_experiments()) == 2  # ours and MLflow's own
    assert not list(tmp_path.glob(".*.new"))


def test_kill_9_during_the_first_start_leaves_no_broken_database(tmp_path):
    uri = f"{SQLITE}{tmp_path}/fresh.db"
    process = _fork(open_client, uri)
    until = time.monotonic() + 60
    while not any(path.stat().st_size > 50_000 for path in tmp_path.glob(".*.new")):  # in the middle of its migrations
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "fresh.db").exists()


def test_an_older_schema_is_upgraded_and_a_copy_kept(template_database, tmp_path):
    import_mlflow()
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine

    path = tmp_path / "old.db"
    shutil.copy(template_database, path)
    engine = create_sqlalchemy_engine(f"{SQLITE}{path}")
    config = _get_alembic_config(f"{SQLITE}{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
    old = _revision(path)
    open_client(f"{SQLITE}{path}")
    assert _revision(path) == _revision(template_database) != old
    assert _revision(tmp_path / f"old.db.{old}.bak") == old


def _revision(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 10, None])
def test_what_is_no_tracking_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "mine.db"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE cats (name TEXT)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"mine\.db is no tracking database"):
        open_client(f"{SQLITE}{path}")
    assert path.read_bytes() == before


def test_a_schema_from_the_future_is_refused(template_database, tmp_path):
    path = tmp_path / "future.db"
    shutil.copy(template_database, path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(UserError, match=r"future\.db does not fit"):
        open_client(f"{SQLITE}{path}")


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use the tracking database"):
        open_client(f"{SQLITE}{tmp_path}/file/mlflow.db")
