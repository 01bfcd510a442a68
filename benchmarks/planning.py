"""Times planning: `snakemake -n` in a fresh process (bar: 5 s), and the plan alone in this one.

python benchmarks/planning.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes for each scale (default: 5)")
    parser.add_argument("--reference", help="accepted for `make bench`; the authors' code has no workflow to compare")
    options = parser.parse_args()
    print(f"{'what':<44}{'best':>8}{'median':>8}   seconds")
    for seeds in (1, 20):
        show(f"plan of all studies, {seeds} seed(s), laptop", [plan_once(seeds) for _ in range(options.rounds)])
    for scale in ("smoke", "laptop"):
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--config", f"scale={scale}"]
        show(f"snakemake -n, {scale}", [process_once(command) for _ in range(options.rounds)])


def show(what: str, seconds: list[float]) -> None:
    print(f"{what:<44}{min(seconds):>8.2f}{statistics.median(seconds):>8.2f}")


def plan_once(seeds: int) -> float:
    from workflow.planning.plan import make_plan

    start = time.perf_counter()
    make_plan(scale="laptop", studies="all", seeds=seeds, root=ROOT)
    return time.perf_counter() - start


def process_once(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
