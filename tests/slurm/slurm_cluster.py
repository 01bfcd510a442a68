"""A real Slurm on one machine: slurmctld, slurmdbd with MariaDB, munge, and two slurmd "nodes" with two fake GPUs each.

Everything (keys, sockets, ports, data base, spool) lives in a temporary folder, so that neither a Slurm nor a MariaDB
that the machine has of its own is touched. Needs root and, where the packages are missing, apt.

To play with it by hand: ``python tests/slurm/slurm_cluster.py`` prints an environment and runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sacctmgr")
NODES = ("n1", "n2")
PASSWORD = "slurm"
APT_PATIENCE_S = 300  # another apt may be at work


def missing_programs() -> list[str]:
    """Return the programs that are still to be installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def why_not() -> str | None:
    """Return why no cluster can be had here, None where it can."""
    if os.environ.get("DINO_SLURM_TESTS") == "0":
        return "DINO_SLURM_TESTS=0 turns these tests off"
    if sys.platform != "linux":
        return "Slurm needs Linux"
    if os.getuid() != 0:
        return "starting a Slurm needs root"
    if missing_programs() and shutil.which("apt-get") is None:
        return f"no apt-get to install {', '.join(missing_programs())}"
    return None


class NotInstallable(RuntimeError):
    """The packages cannot be had, for example without a network."""


def install() -> None:
    """Install the Debian packages; their services are not started.

    Raises:
        NotInstallable: apt failed.
    """
    if not missing_programs():
        return
    with services_stay_down():
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *PACKAGES)
    if missing_programs():
        raise NotInstallable(f"{', '.join(missing_programs())} are not in {', '.join(PACKAGES)} of this system")


def _apt(*words: str) -> None:
    """Run apt-get; where another one is at work, wait for that to end."""
    command = ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={APT_PATIENCE_S}", *words]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    end = time.monotonic() + APT_PATIENCE_S
    while True:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return
        # The option above is about one of apt's locks only, not about that of the package lists.
        if "Could not get lock" not in done.stderr or time.monotonic() > end:
            raise NotInstallable(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        time.sleep(2)


@contextlib.contextmanager
def services_stay_down() -> Iterator[None]:
    """Keep Debian from starting the services of the packages that it installs (policy-rc.d's exit status 101)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield  # somebody else's decision
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


class Cluster:
    """The daemons, in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        names = ("ctld", "dbd", "mysql", *NODES)
        self.ports = dict(zip(names, _free_ports(len(names)), strict=True))
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """Write the configuration and start the daemons in their order; takes some ten seconds."""
        for name in ("spool", "state", "mysql", "log"):
            (self.folder / name).mkdir()
        self._configure()
        self._start_munge()
        self._start_database()
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._until("slurmdbd", ["sacctmgr", "-i", "add", "cluster", "test"])
        self._run("sacctmgr", "-i", "add", "account", "lab")
        self._run("sacctmgr", "-i", "add", "user", "root", "account=lab")
        self._daemon("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self._until("slurmctld", ["scontrol", "ping"])
        self._until("nodes", ["bash", "-c", f"test $(sinfo -h -N -t idle -o %N | wc -l) = {len(NODES)}"])

    def start_node(self, node: str) -> None:
        """Start one slurmd."""
        self._daemon(node, "slurmd", "-D", "-N", node)

    def stop(self) -> None:
        """End all daemons, with the steps of jobs that still run, and remove the folder."""
        with contextlib.suppress(RuntimeError, subprocess.SubprocessError, OSError):
            self._run("scancel", "--user=root", "--signal=KILL", "--full", timeout=10)
        for name in reversed(list(self.daemons)):
            process = self.daemons[name]
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            if process.poll() is None:
                process.kill()
        _kill_mentioning(str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        host = socket.gethostname()
        cpus = max(2, os.cpu_count() or 2)
        for device in ("fakegpu0", "fakegpu1"):
            if not Path("/dev", device).exists():
                os.mknod(f"/dev/{device}", 0o20666, os.makedev(1, 3))
        f, nodes = self.folder, f"{NODES[0]},{NODES[-1]}"
        lines = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={self.ports[node]} CPUs={cpus} "
            "RealMemory=2000 Gres=gpu:2 State=UNKNOWN"
            for node in NODES
        )
        self._write(
            "slurm.conf",
            f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={self.ports["ctld"]}
SlurmUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job is held back; the default is two minutes
AuthInfo=socket={f}/munge.socket,cred_expire=6
# Patience: the machine may be busy with other tests
MessageTimeout=60
TCPTimeout=30
BatchStartTimeout=120
SlurmdTimeout=120
StateSaveLocation={f}/state
SlurmdSpoolDir={f}/spool/%n
SlurmctldPidFile={f}/slurmctld.pid
SlurmdPidFile={f}/slurmd-%n.pid
SlurmctldLogFile={f}/log/slurmctld.log
SlurmdLogFile={f}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={self.ports["dbd"]}
AccountingStoragePass={f}/munge.socket
AccountingStorageTRES=gres/gpu
ReturnToService=2
KillWait=5
OverTimeLimit=0
DefMemPerCPU=500
GresTypes=gpu
RebootProgram=/bin/false
{lines}
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
""",
        )
        self._write("gres.conf", f"NodeName={nodes} Name=gpu File=/dev/fakegpu[0-1]\n")
        v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        plugin = "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes" if v2 else "CgroupPlugin=cgroup/v1"
        self._write("cgroup.conf", f"{plugin}\nCgroupAutomount=no\nCgroupMountpoint=/sys/fs/cgroup\n")
        self._write("slurmdbd.conf", f"""\
AuthType=auth/munge
AuthInfo={f}/munge.socket
DbdHost={socket.gethostname()}
DbdAddr=127.0.0.1
DbdPort={self.ports["dbd"]}
SlurmUser=root
PidFile={f}/slurmdbd.pid
LogFile={f}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={self.ports["mysql"]}
StorageUser=slurm
StoragePass={PASSWORD}
StorageLoc=slurm_acct_db
""", mode=0o600)  # fmt: skip

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munge.pid", f"--seed-file={self.folder}/munge.seed",
            f"--log-file={self.folder}/log/munge.log",
        )  # fmt: skip
        self._until("munge", ["munge", "-n", f"--socket={self.folder}/munge.socket"])

    def _start_database(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "mysql.socket"
        self._run(
            "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", f"--socket={sock}",
            "--bind-address=127.0.0.1", f"--port={self.ports['mysql']}", f"--pid-file={self.folder}/mysql.pid",
            "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        client = ["mariadb", "--no-defaults", f"--socket={sock}", "--user=root", "-e"]
        self._until("mariadb", [*client, "select 1"])
        self._run(
            *client,
            f"create database slurm_acct_db; create user slurm@'127.0.0.1' identified by '{PASSWORD}'; "
            f"create user slurm@localhost identified by '{PASSWORD}'; "
            "grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost;",
        )

    def _write(self, name: str, text: str, *, mode: int = 0o644) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(mode)

    def _daemon(self, name: str, *command: str) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env={**os.environ, **self.environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def _run(self, *command: str, timeout: float = 60) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _until(self, what: str, command: list[str], *, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                self._run(*command)
                return
            except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
                died = [name for name, process in self.daemons.items() if process.poll() is not None]
                if died or time.monotonic() > end:
                    logs = "".join(
                        f"\n--- {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                        for path in sorted((self.folder / "log").iterdir())
                    )
                    raise RuntimeError(f"{what} did not come up (ended: {died}): {error}{logs}") from error
                time.sleep(0.2)


def serve(ready: Path | None, parent: int | None) -> None:
    """Run a cluster until the parent process ends or a signal comes; the file ``ready`` then holds how to reach it.

    Beside it, ``.absent`` says why there is none to be had here, ``.error`` why it did not start.
    """
    try:
        install()
    except NotInstallable as error:
        if ready is None:
            raise
        ready.with_suffix(".absent").write_text(str(error))
        return
    folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        cluster.start()
        facts = {
            "environment": cluster.environment,
            "folder": str(folder),
        }
        if ready is not None:
            ready.with_suffix(".tmp").write_text(json.dumps(facts))
            ready.with_suffix(".tmp").rename(ready)
        else:
            print("\n".join(f"export {name}={value}" for name, value in cluster.environment.items()), flush=True)
        while (parent is None or os.path.exists(f"/proc/{parent}")) and not (folder / "stop").exists():
            time.sleep(0.2)
            for node in NODES:  # a test has killed it; nodes come back, as they do in life
                if cluster.daemons[node].poll() is not None and (folder / f"revive-{node}").exists():
                    (folder / f"revive-{node}").unlink()
                    cluster.start_node(node)
    except BaseException as error:
        if ready is not None and not ready.exists():
            ready.with_suffix(".error").write_text(str(error) or repr(error))
        raise
    finally:
        cluster.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _kill_mentioning(text: str) -> None:
    """Kill what is left of steps and daemons of this cluster: their command line or environment names its folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if text.encode() in words:
                os.kill(int(entry.name), signal.SIGKILL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready", type=Path, help="file to write when the cluster is up")
    parser.add_argument("--parent", type=int, help="process whose end ends the cluster")
    options = parser.parse_args()
    serve(options.ready, options.parent)
