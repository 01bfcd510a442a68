"""What a job costs that starts in the warm process (`dino.warm`) against the same command in a process of its own.

python benchmarks/warm_start.py [--rounds N]

The job is `dino features` of random weights on the 200 images of the generated set `world-smoke`, which is mostly the
import of torch and timm. CPU time is that of all processes of the job, the warm process included, best of the rounds;
the first warm job, which pays for the imports of all, is shown apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from dino.warm.client import FOLDER_VARIABLE
from workflow.session.warm import WarmProcesses

ROOT = Path(__file__).resolve().parent.parent
THREADS = "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="jobs of each kind (default: 5)")
    parser.add_argument("--reference", help="accepted for `make bench`; the authors' code has no workflow to compare")
    options = parser.parse_args()
    os.environ.pop(FOLDER_VARIABLE, None)
    os.environ["OMP_NUM_THREADS"] = THREADS
    with tempfile.TemporaryDirectory(prefix="warm-") as name:
        folder = Path(name)
        run("generate", "world-smoke", "--output", str(folder / "world"))
        cold = [features(folder) for _ in range(options.rounds)]
        processes = WarmProcesses.start()
        try:
            server = psutil.Process(processes.processes[0].pid)
            first, *warm = [features(folder, server) for _ in range(options.rounds + 1)]
        finally:
            processes.stop()
    print(f"{'dino features, 200 images, 1 thread':<40}{'wall':>8}{'CPU':>8}   seconds")
    rows = {"cold": best(cold), "warm, the first": first, "warm, each other": best(warm)}
    for label, (wall, cpu) in rows.items():
        print(f"  {label:<38}{wall:>8.2f}{cpu:>8.2f}")
    print(f"a warm job costs {best(cold)[1] / best(warm)[1]:.1f} times less CPU")


def features(folder: Path, server: psutil.Process | None = None) -> tuple[float, float]:
    """One job: its wall and CPU time, s. With ``server``, what that process and its ended children used counts."""
    used, start = cpu_seconds(server), time.perf_counter()
    arguments = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "4", "--data", str(folder / "world")]
    run("features", *arguments, "--image-size", "16", "--output", str(folder / "features.npz"), "--quiet")
    return time.perf_counter() - start, cpu_seconds(server) - used


def cpu_seconds(server: psutil.Process | None) -> float:
    times = [psutil.Process().cpu_times()]
    if server is not None:
        times.append(server.cpu_times())
    own = times[-1].user + times[-1].system if server is not None else 0.0
    return own + sum(time.children_user + time.children_system for time in times)


def best(jobs: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in jobs), min(cpu for _, cpu in jobs)


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "dino", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
