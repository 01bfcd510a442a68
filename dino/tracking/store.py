"""Which MLflow store is used, and how it is opened.

``import mlflow`` takes about two seconds, so it happens only in `open_client`, when there is something to deliver.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino.errors import UserError
from dino.log import logger
from dino.running.locks import file_lock

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"

_ENVIRONMENT = {
    # With MLflow's own 7 retries a dead server blocks each call for 246 s; the mirror has its own patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Telemetry also has a race between client threads that fails calls (MLflow 3.17).
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def resolve_tracking_uri(explicit: str | None = None) -> str:
    """The store to use: ``explicit``, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder.

    A SQLite path is made absolute, so that the answer names one store wherever it is used.

    Raises:
        UserError: A folder or ``file:`` address, which MLflow no longer serves.
    """
    uri = explicit or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE):
        return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute())
    scheme = uri.partition(":")[0]
    if "://" not in uri or scheme in ("file", "sqlite"):
        raise UserError(
            f"tracking address '{uri}': MLflow 3 keeps no runs in plain folders; use "
            f"{SQLITE}{Path('mlflow.db').absolute()}, or the http:// address of a server"
        )
    return uri.rstrip("/") if scheme in ("http", "https") else uri


def sqlite_path(uri: str) -> Path | None:
    """The database file behind ``uri``, or None for servers and other databases."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def known_runs(uri: str) -> set[str] | None:
    """Ids of all runs in a SQLite store, read without MLflow in milliseconds; None where that cannot be asked so.

    With it the mirror notices that a store was deleted or replaced, and fills it anew.
    """
    path = sqlite_path(uri)
    if path is None:
        return None
    if not path.is_file():
        return set()
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return {row[0] for row in connection.execute("SELECT run_uuid FROM runs")}
        finally:
            connection.close()
    except sqlite3.Error:
        return None  # not (yet) a database of MLflow's: open_client says what is wrong with it


def open_client(uri: str) -> MlflowClient:
    """A client of the store at ``uri``; a SQLite store is created or brought to MLflow's current schema first.

    Raises:
        UserError: The SQLite file cannot be used. A dead server is not noticed here but at the first call.
    """
    import_mlflow()
    from mlflow.tracking import MlflowClient

    path = sqlite_path(uri)
    if path is None:
        return MlflowClient(tracking_uri=uri)
    try:
        # Processes that open a fresh database at once break it for good (MLflow's migrations race): one at a time.
        with file_lock(path.with_name(f".{path.name}.lock")):
            _prepare_sqlite(path)
            client = MlflowClient(tracking_uri=uri)
            client.get_experiment_by_name("Default")  # the first call opens the database
    except OSError as error:
        raise UserError(f"cannot use the tracking database {path}: {error.strerror}") from error
    return client


def import_mlflow() -> None:
    """Import MLflow with the settings that the mirror needs; a person's own environment variables win."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    # It logs tracebacks of what it also raises; the mirror says it in a sentence.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def ensure_experiment(client: Any, name: str, uri: str) -> str:
    """Id of the experiment ``name``, created or taken out of the trash where need be.

    MLflow fixes the place of artifacts when an experiment is created, by default relative to the folder it happens to
    run in; beside a SQLite store it is ``results/mlflow-artifacts``. A server decides for itself.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        location = None if path is None else str(path.parent / "results" / "mlflow-artifacts" / name)
        try:
            # The kind makes the UI open on the table of runs, not on its pages for chat applications.
            return str(
                client.create_experiment(
                    name, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
                )
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another mirror was faster
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _prepare_sqlite(path: Path) -> None:
    """Create the database, or upgrade its schema after a copy was put aside. The caller holds the lock."""
    if not path.exists() or path.stat().st_size == 0:
        _create_sqlite(path)
        return
    revision = _schema_revision(path)
    from mlflow.store.db.utils import _get_latest_schema_revision

    latest = _get_latest_schema_revision()
    if revision == latest:
        return
    backup = path.with_name(f"{path.name}.{revision}.bak")
    logger.info("upgrading the schema of %s (a copy of the old one is %s)", path, backup.name)
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    _migrate(path, create=False)


def _create_sqlite(path: Path) -> None:
    """Run MLflow's migrations in a file beside ``path`` and move it there: a kill leaves no half-made store."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _migrate(temporary, create=True)
        if not path.exists() or path.stat().st_size == 0:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _migrate(path: Path, *, create: bool) -> None:
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(SQLITE + str(path))
    try:
        (utils._initialize_tables if create else utils._upgrade_db)(engine)
    except OSError:
        raise
    except Exception as error:  # alembic and SQLAlchemy raise dozens of kinds
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the tracking database {path} does not fit MLflow's schema ({reason}); move it away and run `dino sync` "
            "again: everything in it that is ours is delivered afresh"
        ) from error
    finally:
        engine.dispose()


def _schema_revision(path: Path) -> str:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(
            f"{path} is no tracking database of MLflow's ({error}); move it away, or name another store"
        ) from error
    return str(row[0]) if row else "none"
