"""Run the benchmarks and write what they print, with machine, commit and commands, to docs/expected/benchmarks.md.

    python benchmarks/record.py --reference DIR     # DIR: a checkout of facebookresearch/dino, for the ratios

`python -m workflow publish` then puts the page into the README. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

from dino.files import write_text
from dino.tracking.environment import commit_in_words, machine_in_words

ROOT = Path(__file__).resolve().parent.parent
RUNS = {
    "Training step": ["training_step.py", "--threads", "2"],
    "Augmentation": ["augmentation.py", "--threads", "1"],
    "k-NN": ["knn.py", "--threads", "2"],
    "Linear probes": ["linear.py", "--threads", "2", "--batch-size", "64"],
    "Video segmentation": ["davis.py", "--threads", "2", "--frames", "16"],
    "Planning": ["planning.py"],
    "Warm start": ["warm_start.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of the authors' code")
    parser.add_argument(
        "--knn-scale", type=float, default=1.0, help="share of the k-NN benchmark's 100k x 20k features"
    )
    options = parser.parse_args()
    sections = []
    for title, (script, *arguments) in RUNS.items():
        if script == "knn.py" and options.knn_scale != 1.0:
            arguments += ["--scale", f"{options.knn_scale:g}"]
        shown = ["python", f"benchmarks/{script}", *arguments]
        if options.reference and script not in ("planning.py", "warm_start.py"):
            arguments += ["--reference", str(options.reference)]
            shown += ["--reference", "DIR"]
        print(f"{title}: {shlex.join(shown)}", flush=True)
        command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
        call = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        sections.append(f"**{title}** (`{shlex.join(shown)}`)\n\n```\n{call.stdout.strip()}\n```")
    provenance = (
        f"Measured on {time.strftime('%Y-%m-%d')} by `benchmarks/record.py`, {machine_in_words()},"
        f" commit {commit_in_words(ROOT)}."
    )
    write_text(ROOT / "docs" / "expected" / "benchmarks.md", "\n\n".join([provenance, *sections]) + "\n")


if __name__ == "__main__":
    main()
