"""An MLflow tracking server over PostgreSQL (or SQLite) on this machine, without containers: for tests and by hand.

``python tests/dino/tracking/tracking_server.py`` prints the line to export and runs until Ctrl-C. Everything (data
base, password, artifacts, logs) lies in one folder, temporary unless named; both servers listen on 127.0.0.1 alone, so
that neither a PostgreSQL nor an MLflow that the machine has of its own is touched. PostgreSQL comes from Debian's
package; it does not run as root, so where root starts it, it runs as ``postgres``, the user that the package makes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PACKAGE = "postgresql"
PROGRAMS = ("initdb", "postgres", "pg_isready", "psql")
USER = "postgres"
ASK = "DINO_POSTGRESQL_TESTS"
STORES = ("postgresql", "sqlite")
POOL_SIZE = 80
"""Database connections of an MLflow process. It answers 40 calls at once, and `log_batch` holds one connection while it
takes a second: with SQLAlchemy's 5, and 10 more in a rush, more than 15 writers can block each other until they time
out (docs/tracking.md has the measurement)."""
_START_SECONDS = 300.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that the kernel sends when whoever started the process dies


def find_programs() -> dict[str, str]:
    """Where PostgreSQL's programs are; Debian puts them beside the path, a folder for each version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]))
    path = os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")])
    return {name: place for name in PROGRAMS if (place := shutil.which(name, path=path))}


def why_not() -> str | None:
    """Return why no server over PostgreSQL can be had here, None where it can."""
    if sys.platform != "linux":
        return "it is tried on Linux only"
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed; `make env` brings it"
    if len(find_programs()) == len(PROGRAMS):
        return None
    if os.environ.get(ASK) != "1":
        return f"PostgreSQL is not installed; `make test-tracking` ({ASK}=1) asks for it"
    if os.getuid() != 0:
        return "PostgreSQL is not installed, and installing it needs root"
    return None if shutil.which("apt-get") else "PostgreSQL is not installed, and there is no apt-get"


def install() -> None:
    """Install Debian's package where it is missing; its own service is not started."""
    if len(find_programs()) == len(PROGRAMS):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", PACKAGE]):
        subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=300", *words],
            env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


class TrackingServer:
    """``mlflow server`` and what stores its runs; each of the two can be killed and started again."""

    def __init__(self, folder: Path, *, store: str = "postgresql", port: int | None = None, workers: int = 1) -> None:
        """Start nothing yet.

        Args:
            folder: Where everything lies. What an earlier server left there is served again.
            store: One of `STORES`.
            port: MLflow's; a free one if None.
            workers: MLflow's processes, about 300 MB each.
        """
        self.folder, self.store, self.workers = folder.absolute(), store, workers
        self.port = port or _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._database_port = _free_port()
        self._programs = find_programs()
        self._database: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": ()} if os.getuid() == 0 else {}

    @property
    def store_uri(self) -> str:
        """What MLflow is given; with the password, so never for a command line."""
        if self.store == "sqlite":
            return f"sqlite:///{self.folder}/mlflow.db"
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://mlflow:{password}@127.0.0.1:{self._database_port}/mlflow"

    def start(self) -> None:
        """Start both; takes some ten seconds, more where the store is new."""
        (self.folder / "log").mkdir(parents=True, exist_ok=True)
        if self.store == "postgresql":
            self.start_database()
        self.start_server()

    def stop(self) -> None:
        """End both in order, the server first, and wait for them."""
        if self._server is not None:
            _end(self._server, signal.SIGTERM)
        if self._database is not None:
            _end(self._database, signal.SIGINT)  # PostgreSQL's fast shutdown: it does not wait for its clients

    def start_database(self) -> None:
        """Start PostgreSQL, on a new data base the first time, and wait until it answers."""
        data = self.folder / "postgresql"
        if not data.exists():
            self._create_cluster(data)
        settings = {"listen_addresses": "127.0.0.1", "port": self._database_port}
        settings |= {"max_connections": 20 + 100 * self.workers, "unix_socket_directories": ""}
        command = [self._programs["postgres"], "-D", str(data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._database = self._daemon("postgresql", command, cwd="/", **self._as_user)
        ready = [self._programs["pg_isready"], "-q", "-h", "127.0.0.1", "-p", str(self._database_port)]
        self._until("postgresql", self._database, lambda: subprocess.run(ready, check=False).returncode == 0)
        if not self.sql("SELECT 1 FROM pg_database WHERE datname = 'mlflow'", database="postgres"):
            self.sql("CREATE DATABASE mlflow", database="postgres")

    def start_server(self) -> None:
        """Start ``mlflow server`` and wait until it answers; it makes its tables itself."""
        environment = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": self.store_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes of its own, for evaluations of chats
        }
        environment.setdefault("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", str(POOL_SIZE))
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", str(self.workers), "--artifacts-destination", str(self.folder / "artifacts")]
        self._server = self._daemon("mlflow", command, env=environment, cwd=self.folder)
        self._until("mlflow", self._server, self.answers)

    def kill_database(self) -> None:
        """SIGKILL to PostgreSQL and all its processes: what a power cut is to it."""
        assert self._database is not None, "not started"
        _kill(self._database)

    def kill_server(self) -> None:
        """SIGKILL to MLflow and its workers."""
        assert self._server is not None, "not started"
        _kill(self._server)

    def answers(self) -> bool:
        """Whether MLflow takes calls."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def sql(self, statement: str, *, database: str = "mlflow") -> str:
        """What PostgreSQL answers, unaligned and without headers."""
        command = [self._programs["psql"], "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
        command += ["-p", str(self._database_port), "-U", "mlflow", "-d", database, "-c", statement]
        environment = {**os.environ, "PGPASSWORD": (self.folder / "password").read_text().strip()}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    def _create_cluster(self, data: Path) -> None:
        """Make it beside its place and move it there: a kill leaves no half-made one."""
        password, making = self.folder / "password", data.with_name("postgresql.new")
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16) + "\n")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        if self._as_user:
            for path in (password, making):
                shutil.chown(path, USER, USER)
        command = [self._programs["initdb"], "-D", str(making), "-U", "mlflow", "--auth=scram-sha-256"]
        done = subprocess.run(
            [*command, f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"],
            capture_output=True, text=True, check=False, cwd="/", **self._as_user,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(making, ignore_errors=True)
            raise RuntimeError(f"initdb in {making} (can {USER} reach that folder?): {done.stderr.strip()}")
        making.rename(data)

    def _daemon(self, name: str, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        libc = ctypes.CDLL(None)
        with open(self.folder / "log" / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM), **options,
            )  # fmt: skip

    def _until(self, name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                log = (self.folder / "log" / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} did not come up:\n{log[-2000:]}")
            time.sleep(0.1)


def serve(folder: Path | None, *, store: str, port: int | None, workers: int) -> None:
    """Run a server until Ctrl-C or SIGTERM; a temporary folder is removed after it."""
    if store == "postgresql":
        install()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracking-server-")))
            folder.chmod(0o711)  # PostgreSQL's user passes through to its own folder and reads nothing else
        server = TrackingServer(folder, store=store, port=port, workers=workers)
        stack.callback(server.stop)
        server.start()
        print(f"export MLFLOW_TRACKING_URI={server.uri}", flush=True)
        signal.pause()


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children, which may have sessions of their own, and wait until they are gone."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(family, timeout=20)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep everything here, for the next start (default: temporary)")
    parser.add_argument("--store", choices=STORES, default="postgresql", help="default: postgresql")
    parser.add_argument("--port", type=int, help="MLflow's port (default: a free one)")
    parser.add_argument("--workers", type=int, default=1, help="MLflow's processes (default: 1)")
    options = parser.parse_args()
    try:
        serve(options.folder, store=options.store, port=options.port, workers=options.workers)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
