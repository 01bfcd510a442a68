"""What the submitit executor costs: CPU time of one job, and 300 jobs that do nothing.

python benchmarks/executor.py [--rounds N] [--jobs N]

CPU time of one job (its processes on the node, user and system, best of the rounds), through submitit's local executor:
the command alone; in a job of submitit's own; in a job of the executor, which runs a rule's shell line directly; and in
one of a nested Snakemake. Bars: a direct job at most 3 s above the command and 1 s above submitit's own; 300 jobs in at
most 4 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = "true"
SNAKEFILE = """
rule all:
    input: expand("done/{{i}}", i=range({jobs}))
rule nothing:
    output: "done/{{i}}"
    shell: ": > {{output}}"
"""
# Each runs in a process of its own, whose children are the job's processes and nothing else.
ALONE = "import subprocess; subprocess.run(['/bin/bash', '-c', COMMAND], check=True)"
SUBMITIT = """
import submitit
executor = submitit.LocalExecutor(FOLDER)
executor.update_parameters(timeout_min=5)
executor.submit(submitit.helpers.CommandFunction(['/bin/bash', '-c', COMMAND], verbose=False)).result()
"""
DIRECT = """
import os, submitit
from snakemake_executor_plugin_submitit.payload import RuleCommand
executor = submitit.LocalExecutor(FOLDER)
executor.update_parameters(timeout_min=5)
executor.submit(RuleCommand(
    command=COMMAND, shell='/bin/bash', directory=os.getcwd(), claim=FOLDER + '/claim', runtime_min=5, requeues_left=1,
    threads=1,
)).result()
"""
NESTED = """
import os, subprocess, sys
open(FOLDER + '/Snakefile', 'w').write('rule nothing:\\n    output: "done"\\n    shell: ": > {output}"\\n')
subprocess.run([sys.executable, '-m', 'snakemake', '--cores', '1', '--quiet', '--directory', FOLDER,
                '--snakefile', FOLDER + '/Snakefile'], check=True, stderr=subprocess.DEVNULL)
"""
USED = """
import resource
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times that each single job is run (default: 3)")
    parser.add_argument("--jobs", type=int, default=300, help="jobs that do nothing (default: 300; 0 leaves them out)")
    options = parser.parse_args()

    rounds = [
        {name: cpu_seconds(code) for name, code in (("alone", ALONE), ("submitit", SUBMITIT), ("direct", DIRECT))}
        for _ in range(options.rounds)
    ]
    best = {name: min(each[name] for each in rounds) for name in rounds[0]}
    print("CPU seconds of one job that runs `true`:")
    print(f"  the command alone                    {best['alone']:6.3f}")
    print(f"  in a job of submitit's own           {best['submitit']:6.3f}")
    print(f"  in a job of the executor, direct     {best['direct']:6.3f}")
    print(f"  a nested Snakemake, without its job  {cpu_seconds(NESTED):6.3f}   (what rules that need one pay on top)")
    print(f"  direct beyond the command            {best['direct'] - best['alone']:6.3f}   (bar: 3)")
    print(f"  direct beyond submitit's own         {best['direct'] - best['submitit']:6.3f}   (bar: 1)")
    if options.jobs:
        seconds = many_jobs(options.jobs)
        print(f"{options.jobs} jobs that do nothing, local cluster, --jobs 8: {seconds:.0f} s   (bar: 240 for 300)")


def cpu_seconds(code: str) -> float:
    """CPU time of a job's processes."""
    with tempfile.TemporaryDirectory() as folder:
        program = code.replace("FOLDER", repr(folder)).replace("COMMAND", repr(COMMAND)) + USED
        done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def many_jobs(jobs: int) -> float:
    """Seconds for a workflow of jobs that do nothing, from the command to its end."""
    options = ["--executor", "submitit", "--submitit-cluster", "local", "--jobs", "8", "--quiet"]
    command = [sys.executable, "-m", "snakemake", *options]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs), encoding="utf-8")
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        assert len(list((folder / "done").iterdir())) == jobs
    return seconds


if __name__ == "__main__":
    main()
