"""Whole workflows through the executor, with submitit's local and debug executors."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest


class Workflow:
    """A tiny workflow in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(textwrap.dedent(text))

    def start(self, *options: str, cluster: str = "local") -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "snakemake", "--executor", "submitit", "--submitit-cluster", cluster, "--jobs", "8",
            "--submitit-folder", "jobs", "--rerun-incomplete", "--nocolor", *options,
        ]  # fmt: skip
        with (self.directory / "snakemake.out").open("w") as out:
            process = subprocess.Popen(
                command, cwd=self.directory, stdout=out, stderr=out, stdin=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def output(self) -> str:
        return (self.directory / "snakemake.out").read_text()

    def end(self, process: subprocess.Popen[str], status: int = 0, seconds: float = 400) -> str:
        process.wait(timeout=seconds)
        assert process.returncode == status, self.output()
        return self.output()

    def run(self, *options: str, cluster: str = "local", status: int = 0) -> str:
        return self.end(self.start(*options, cluster=cluster), status)

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def tickets(self) -> list[Path]:
        return sorted((self.directory / "jobs" / "tickets").iterdir())


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    made = Workflow(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for process in psutil.process_iter(["cmdline"]):  # what a failed test leaves behind
        if str(tmp_path) in " ".join(process.info["cmdline"] or []):
            process.kill()


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def test_the_plugin_is_found_by_snakemake() -> None:
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    assert "submitit" in ExecutorPluginRegistry().get_registered_plugins()


def test_a_job_does_not_import_snakemake() -> None:
    code = (
        "import sys, snakemake_executor_plugin_submitit.payload; sys.exit(any('snakemake.' in m for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_workflow_runs(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        """
        rule all:
            input: "tail", "ranks", "resumed", "retried", "nested", "grouped"
        rule part:
            output: "part/{i}"
            log: "logs/{i}"
            threads: 3
            shell: "echo {wildcards.i} $OMP_NUM_THREADS > {output}; echo logged > {log}"
        rule tail:
            input: expand("part/{i}", i=range(3))
            output: "tail"
            shell: "cat {input} > {output}"
        rule ranks:
            output: "ranks"
            resources: tasks_per_node=2
            shell:
                "echo $RANK $WORLD_SIZE $MASTER_ADDR > rank-$RANK; if [ $RANK = 0 ]; then "
                "until [ -s rank-1 ]; do sleep 0.1; done; cat rank-? > {output}; fi"
        rule resumed:
            output: "resumed"
            shell: "echo run >> runs; [ $(wc -l < runs) -ge 7 ] || exit 75; cp runs {output}"
        rule retried:
            output: "retried"
            retries: 1
            resources: mem_mb=lambda wildcards, attempt: 100 * attempt
            shell: "echo {resources.mem_mb} >> asked; [ {resources.mem_mb} = 200 ] && cp asked {output}"
        rule nested:
            input: "tail"
            output: "nested"
            run:
                open(output[0], "w").write(open(input[0]).read().upper())
        rule first:
            output: temp("first")
            group: "pair"
            shell: "echo one > {output}"
        rule second:
            input: "first"
            output: "grouped"
            group: "pair"
            shell: "cat {input} > {output}; echo two >> {output}"
        """,
    )
    workflow.run()
    assert workflow.read("tail") == workflow.read("nested") == "0 3\n1 3\n2 3\n"
    assert workflow.read("logs/1") == "logged\n"
    assert workflow.read("ranks") == "0 2 127.0.0.1\n1 2 127.0.0.1\n"
    assert workflow.read("resumed").count("run") == 7, "beyond the six runs of submitit's controller, too"
    assert workflow.read("retried") == "100\n200\n"
    assert workflow.read("grouped") == "one\ntwo\n"
    assert not workflow.tickets()


def test_failures_come_with_their_reason_and_the_end_of_the_log(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        """
        rule all:
            input: "logs", "speaks", "dies", "endless", "nested", "rank"
        rule logs:
            output: "logs"
            log: "said"
            shell: "(echo early; echo the disk is full) 2> {log} >&2; exit 3"
        rule speaks:
            output: "speaks"
            shell: "echo no such model >&2; false"
        rule dies:
            output: "dies"
            shell: "kill -9 $$"
        rule endless:
            output: "endless"
            shell: "exit 75"
        rule nested:
            output: "nested"
            retries: 1
            run:
                open("nested-runs", "a").write("run\\n")
                raise ValueError("a nested mistake")
        rule rank:
            output: "rank"
            resources: tasks_per_node=2
            shell: "if [ $RANK = 1 ]; then echo rank one is unwell >&2; exit 5; fi; sleep 600"
        """,
    )
    text = workflow.run("--keep-going", "--submitit-max-requeues", "1", status=1)
    assert "failed: exit status 3" in text
    assert "      | the disk is full\n" in text
    assert "failed: exit status 1" in text
    assert "      | no such model\n" in text
    assert "failed: killed by SIGKILL" in text
    assert "interrupted 2 times" in text
    assert "a nested mistake" in text
    assert "exit status 5" in text
    assert "rank one is unwell" in text
    assert "Traceback" not in text.replace(text[text.index("rule nested:") :], "")
    assert workflow.read("nested-runs") == "run\nrun\n", "once for each attempt of the main process, none of its own"
    assert not workflow.tickets()


def test_an_interrupt_ends_all_processes_of_all_jobs(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        f"""
        rule all:
            input: expand("{{i}}", i=range(2))
        rule wait:
            output: "{{i}}"
            shell:
                "touch started-{{wildcards.i}}; "
                "sh -c 'sleep 600; : {workflow.directory}' & sleep 600; : {workflow.directory}"
        """,
    )
    process = workflow.start()
    until(lambda: all((workflow.directory / f"started-{i}").exists() for i in range(2)), "jobs run")
    process.send_signal(signal.SIGINT)
    workflow.end(process, status=1, seconds=120)
    left = [p.info for p in psutil.process_iter(["cmdline"]) if str(workflow.directory) in str(p.info["cmdline"])]
    assert not left
    assert not workflow.tickets()


def test_a_killed_snakemake_finds_its_jobs_again(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        """
        rule all:
            input: expand("done/{i}", i=range(5)), "shy"
        rule shy:
            input: lambda wildcards: [] if os.path.exists("shy") else ["seed/0"]
            output: "shy"
            shell: "echo run >> runs-shy; while [ ! -e first ]; do sleep 0.1; done; touch {output}"
        rule part:
            input: "seed/{i}"
            output: "done/{i}"
            params: how="well"
            shell:
                "echo run >> runs-{wildcards.i}; echo half > {output}; cat {input} > seen-{wildcards.i}; "
                "[ {wildcards.i} != 1 ] || [ -e go ] || exit 9; "
                "while [ ! -e go ] && ! ([ {wildcards.i} = 0 ] && [ -e first ]); do sleep 0.1; done; "
                "cat {input} > {output}"
        """,
    )
    (workflow.directory / "seed").mkdir()
    for i in range(5):
        workflow.write(f"seed/{i}", f"{i}\n")
    process = workflow.start("--keep-going")
    jobs = (*range(5), "shy")
    until(lambda: all((workflow.directory / f"runs-{i}").exists() for i in jobs), "all jobs run")
    process.kill()
    process.wait()
    (workflow.directory / "first").touch()
    tickets = {
        json.loads(path.read_text())["outputs"][0]: path for path in workflow.tickets() if path.suffix == ".json"
    }
    for output in ("done/0", "shy"):
        finished = re.escape(json.loads(tickets[output].read_text())["job_id"])
        until(lambda f=finished: list(workflow.directory.glob(f"jobs/*/{f}_0_result.pkl")), "two end unwatched")
    # As if Snakemake had been killed before it learnt the number of job 2; and other inputs for job 3.
    ticket = json.loads(tickets["done/2"].read_text())
    tickets["done/2"].write_text(json.dumps({**ticket, "job_id": None, "process_started": None}))
    workflow.write("seed/3", "changed\n")

    workflow.run("--unlock")
    process = workflow.start()
    until(lambda: workflow.output().count("which is taken over") == 4, "jobs 0, 2, 4 and the shy one are taken over")
    (workflow.directory / "go").touch()
    text = workflow.end(process)
    assert "read other inputs; it is run again" in text
    assert {i: workflow.read(f"done/{i}") for i in range(5)} == {0: "0\n", 1: "1\n", 2: "2\n", 3: "changed\n", 4: "4\n"}
    runs = {i: workflow.read(f"runs-{i}").count("run") for i in jobs}
    assert runs == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, "shy": 1}, "only the failed and the outdated one were run again"
    assert not workflow.tickets()
    workflow.write("Snakefile", workflow.read("Snakefile").replace('how="well"', 'how="better"'))
    assert "Params have changed" in workflow.run("--dry-run"), "what was taken over has its provenance"


def test_a_ticket_that_outlived_its_recorded_job_is_forgotten(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        """
        rule all:
            input: "last"
        rule first:
            output: "first"
            shell: "while [ ! -e go ]; do sleep 0.1; done; echo run >> runs; touch {output}"
        rule last:
            input: "first"
            output: "last"
            shell: "touch {output}"
        """,
    )
    process = workflow.start()
    until(lambda: "is local job" in workflow.output(), "the first job is submitted")
    (ticket,) = (path for path in workflow.tickets() if path.suffix == ".json")
    text = ticket.read_text()
    (workflow.directory / "go").touch()
    workflow.end(process)
    # As if Snakemake had been killed after it had recorded the job, and before it removed the ticket:
    ticket.write_text(text)
    (workflow.directory / "last").unlink()
    assert "taken over" not in workflow.run()
    assert not workflow.tickets()
    assert workflow.read("runs") == "run\n"


def test_the_debug_cluster_runs_in_process(workflow: Workflow) -> None:
    workflow.write(
        "Snakefile",
        """
        rule all:
            input: "good", "resumed"
        rule good:
            output: "good"
            shell: "echo good > {output}"
        rule resumed:
            output: "resumed"
            shell: "echo run >> runs; [ $(wc -l < runs) = 3 ] || exit 75; cp runs {output}"
        """,
    )
    workflow.run(cluster="debug")
    assert workflow.read("good") == "good\n"
    assert workflow.read("resumed") == "run\n" * 3


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ('resources: slurm_partion="x"\n            shell: "exit 1"', "unknown resource 'slurm_partion'"),
        ('resources: nodes=2\n            shell: "exit 1"', "Rule wrong asks for 2 nodes"),
        ('resources: tasks_per_node=2\n            run: pass', "needs a nested Snakemake"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_stops_before_the_first_job(workflow: Workflow, directive: str, message: str) -> None:
    workflow.write(
        "Snakefile",
        f"""
        rule all:
            input: "good", "wrong"
        rule good:
            output: "good"
            shell: "touch started; echo good > {{output}}"
        rule wrong:
            output: "wrong"
            {directive}
        """,
    )
    assert message in workflow.run(status=1)
    assert not (workflow.directory / "started").exists()


def test_every_setting_is_in_the_readme(project_root: Path) -> None:
    from dataclasses import fields

    from snakemake_executor_plugin_submitit import ExecutorSettings
    from snakemake_executor_plugin_submitit.resources import KNOWN_SLURM_NAMES

    package = project_root / "workflow" / "plugins" / "snakemake_executor_plugin_submitit"
    readme = (package / "README.md").read_text()
    for setting in fields(ExecutorSettings):
        row = f"| `{setting.name.replace('_', '-')}` | `{setting.default}` |".replace("| `` |", "| empty |")
        assert row in readme, row
    for name in KNOWN_SLURM_NAMES:
        assert f"`{name}`" in readme, name
