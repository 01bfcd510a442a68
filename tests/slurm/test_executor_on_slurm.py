"""The submitit executor on a real Slurm: what clusters do to jobs, and what becomes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
from pathlib import Path

import psutil
import pytest
from slurm_harness import Slurm, until

pytestmark = pytest.mark.slow


def write_program(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(textwrap.dedent(text))


# Counts to `target` in steps of 0.1 s, keeping its count in a file that survives; with SIGUSR2 it leaves with 75.
COUNTER = """
    import pathlib, signal, sys, time

    state, target, output = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    warned = []
    signal.signal(signal.SIGUSR2, lambda *_: warned.append(1))
    done = int(state.read_text()) if state.exists() else 0
    history = pathlib.Path(f"{state}.history")
    with history.open("a") as file:
        print(f"start at {done}", file=file)
    while done < target:
        time.sleep(0.1)
        done += 1
        pathlib.Path(f"{state}.new").write_text(str(done))
        pathlib.Path(f"{state}.new").rename(state)
        if warned:
            sys.exit(75)
    output.write_text(history.read_text())
"""


def test_jobs_get_what_their_rules_ask_for_and_like_ones_share_an_array(slurm: Slurm, tmp_path: Path) -> None:
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule all:
                input: expand("part/{i}", i=range(4)), "asked", "nested", "grouped"
            rule part:
                output: "part/{i}"
                resources: mem_mb=100
                shell: "echo {wildcards.i} $SLURM_ARRAY_TASK_ID > {output}"
            rule asks:
                output: "asked"
                threads: 2
                resources:
                    mem_mb=300, runtime=7, gpu=2, slurm_partition="main", slurm_account="lab",
                    slurm_comment="a comment", slurm_extra="--nice=5 --nodelist n2"
                shell: "echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $SLURM_CPUS_PER_TASK $(nproc) > {output}"
            rule nested:
                input: expand("part/{i}", i=range(4))
                output: "nested"
                run:
                    with open(output[0], "w") as out:
                        out.writelines(sorted(open(f).read().split()[0] for f in input))
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
    run.succeed()
    assert (tmp_path / "asked").read_text().split()[:3] == ["0,1", "2", "2"]
    assert (tmp_path / "nested").read_text() == "0123"
    assert (tmp_path / "grouped").read_text() == "one\ntwo\n"
    parts = slurm.jobs("part", expected=4)
    assert len(parts) == 4
    assert len({job["JobID"].partition("_")[0] for job in parts}) == 1, "four jobs, one sbatch"
    (asked,) = slurm.jobs("asks")
    assert asked["TimelimitRaw"] == "7"
    assert asked["NodeList"] == "n2"
    assert {"cpu=2", "mem=300M", "gres/gpu=2", "node=1"} <= set(asked["AllocTRES"].split(","))
    assert not list((tmp_path / "slurm" / "tickets").iterdir()), "every job was accounted for"


def test_two_nodes_with_two_tasks_each_find_each_other_by_their_environment(slurm: Slurm, tmp_path: Path) -> None:
    write_program(
        tmp_path, "meet.py",
        """
        import os, pathlib, socket, sys, time

        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        who = f"{rank} {os.environ['LOCAL_RANK']} {os.environ['NODE_RANK']} {os.environ['SLURMD_NODENAME']}"
        if rank == 0:
            server = socket.create_server(address)
            met = [who]
            for _ in range(world - 1):
                connection, _ = server.accept()
                met.append(connection.recv(100).decode())
            pathlib.Path(sys.argv[1]).write_text("\\n".join(sorted(met)))
        else:
            for _ in range(300):
                try:
                    socket.create_connection(address).sendall(who.encode())
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            else:
                sys.exit("nobody there")
        """,
    )  # fmt: skip
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule meet:
                output: "met"
                resources: nodes=2, tasks_per_node=2, mem_mb=200, runtime=3
                shell: "python3 meet.py {output}"
        """,
    )
    run.succeed()
    assert (tmp_path / "met").read_text().splitlines() == ["0 0 0 n1", "1 1 0 n1", "2 0 1 n2", "3 1 1 n2"]
    assert len(slurm.jobs("meet")) == 1


def test_a_failing_rank_ends_the_job_and_its_words_are_shown(slurm: Slurm, tmp_path: Path) -> None:
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule ranks:
                output: "never"
                resources: nodes=2, tasks_per_node=1, mem_mb=200
                shell: "if [ $RANK = 1 ]; then echo the second rank is unwell >&2; exit 3; fi; sleep 600"
        """,
    )
    run.fail("exit status 3", "the second rank is unwell")


def test_a_requeued_job_goes_on_from_its_state_and_is_one_job(slurm: Slurm, tmp_path: Path) -> None:
    write_program(tmp_path, "count.py", COUNTER)
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule count:
                output: "counted"
                resources: mem_mb=100
                shell: "python3 count.py state 50 {output}"
        """,
    )
    run.until(lambda: (tmp_path / "state").exists() and int((tmp_path / "state").read_text()) > 10, "it counts")
    (job_id,) = slurm.running()
    slurm.command("scontrol", "requeue", job_id)
    run.succeed()
    first, second = (tmp_path / "counted").read_text().splitlines()
    assert first == "start at 0"
    assert 10 < int(second.rpartition(" ")[2]) < 50
    assert {job["JobID"] for job in slurm.jobs("count")} == {job_id}


def test_a_job_out_of_time_is_requeued_with_its_state_until_its_budget_ends(slurm: Slurm, tmp_path: Path) -> None:
    # Slurm looks at time limits every 30 s: warned 50 s before a limit of 60 s, a job hears of it 10 to 40 s on.
    # Three ends in one workflow, since all of them take their time.
    write_program(tmp_path, "count.py", COUNTER)
    run = slurm.snakemake(
        tmp_path, "--submitit-signal-delay", "50", "--submitit-max-requeues", "3", "--keep-going",
        snakefile="""
            rule all:
                input: "counted", "deaf", "again"
            rule count:
                output: "counted"
                resources: mem_mb=100, runtime=1
                shell: "python3 count.py state 450 {output}"
            rule deaf:
                output: "deaf"
                resources: mem_mb=100, runtime=1
                shell: "sleep 600; touch {output}"
            rule again:
                output: "again"
                resources: mem_mb=100
                shell: "echo run >> runs; exit 75"
        """,
    )  # fmt: skip
    run.fail("time limit of 1 min reached", "interrupted 4 times")
    assert (tmp_path / "runs").read_text() == "run\n" * 4
    starts = [int(line.rpartition(" ")[2]) for line in (tmp_path / "counted").read_text().splitlines()]
    assert len(starts) >= 2, "it was warned at least once before it was done"
    assert starts == sorted(set(starts))
    assert len(slurm.jobs("count")) == 1, "requeued under its own id"


def test_out_of_memory_is_said_and_the_next_attempt_gets_more(slurm: Slurm, tmp_path: Path) -> None:
    run = slurm.snakemake(
        tmp_path, "--retries", "1",
        snakefile="""
            rule hungry:
                output: "fed"
                resources: mem_mb=lambda wildcards, attempt: 100 if attempt == 1 else 600
                shell: "python3 -c 'import time; x = bytearray(300 << 20); time.sleep(4)'; echo fed > {output}"
        """,
    )  # fmt: skip
    text = run.succeed()
    assert "ran out of memory (asked for mem_mb=100)" in text or "out of memory (asked for mem_mb=100)" in text
    jobs = slurm.jobs("hungry", expected=2)
    assert [job["AllocTRES"].split("mem=")[1].split(",")[0] for job in jobs] == ["100M", "600M"]


@pytest.mark.parametrize("accounting", [True, False])
def test_a_cancelled_job_fails_with_that_reason(slurm: Slurm, tmp_path: Path, accounting: bool) -> None:
    environment = {}
    if not accounting:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
        (tmp_path / "bin" / "sacct").chmod(0o755)
        environment["PATH"] = f"{tmp_path / 'bin'}:{slurm.environment['PATH']}"
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule wait:
                output: "never"
                resources: mem_mb=100
                shell: "touch started; sleep 600"
        """,
        environment=environment,
    )
    run.until((tmp_path / "started").exists, "the job runs")
    slurm.command("scancel", *slurm.running())
    run.fail("cancelled from outside")


def test_jobs_on_a_lost_node_are_started_on_another_or_fail_with_that_reason(
    slurm_alone: Slurm, tmp_path: Path
) -> None:
    slurm = slurm_alone
    write_program(tmp_path, "count.py", COUNTER)
    run = slurm.snakemake(
        tmp_path, "--keep-going",
        snakefile="""
            rule all:
                input: "counted", "never"
            rule count:
                output: "counted"
                resources: mem_mb=100
                shell: "echo $SLURMD_NODENAME >> nodes; python3 count.py state 100 {output}"
            rule stays:
                output: "never"
                resources: mem_mb=100, slurm_extra="--no-requeue"
                shell: "touch started; sleep 600"
        """,
    )  # fmt: skip
    run.until((tmp_path / "started").exists, "both jobs run")
    run.until(lambda: (tmp_path / "state").exists() and int((tmp_path / "state").read_text()) > 5, "it counts")
    (node,) = set(slurm.command("squeue", "-h", "-t", "RUNNING", "-o", "%N").split())
    assert lose_node(slurm, node) > 4
    try:
        run.fail(f"node failure (on {node})")
    finally:
        revive(slurm, node)
    assert len((tmp_path / "counted").read_text().splitlines()) == 2
    assert len(set((tmp_path / "nodes").read_text().split())) == 2
    assert len(slurm.jobs("count")) == 1


def test_a_job_survives_a_killed_slurmd(slurm_alone: Slurm, tmp_path: Path) -> None:
    slurm = slurm_alone
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule wait:
                output: "done"
                resources: mem_mb=100
                shell: "echo start >> starts; while [ ! -e go ]; do sleep 0.1; done; cp starts {output}"
        """,
    )
    run.until((tmp_path / "starts").exists, "the job runs")
    node = slurm.command("squeue", "-h", "-t", "RUNNING", "-o", "%N")
    (daemon,) = [process for process in psutil.process_iter() if is_slurmd(slurm, process, node)]
    daemon.kill()
    daemon.wait()
    revive(slurm, node)
    run.until(lambda: any(is_slurmd(slurm, process, node) for process in psutil.process_iter()), "it is back")
    (tmp_path / "go").touch()
    run.succeed()
    assert (tmp_path / "done").read_text() == "start\n"


def is_slurmd(slurm: Slurm, process: psutil.Process, node: str) -> bool:
    """Return whether a process is the daemon of a node of this cluster."""
    try:
        ours = process.environ().get("SLURM_CONF") == slurm.environment["SLURM_CONF"]
        return ours and process.cmdline()[:4] == ["slurmd", "-D", "-N", node]
    except psutil.Error:
        return False


def revive(slurm: Slurm, node: str) -> None:
    """Have the daemon of a node started again."""
    (slurm.folder / f"revive-{node}").touch()


def lose_node(slurm: Slurm, node: str) -> int:
    """Kill slurmd, the job steps and their processes of a node, as a power cut would; returns how many processes.

    Slurm is told at once that the node is down, which it would find out by itself after SlurmdTimeout.
    """
    daemons, processes = [], []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get("SLURM_CONF") != slurm.environment["SLURM_CONF"]:
                continue
            if is_slurmd(slurm, process, node):
                daemons.append(process)
            elif environment.get("SLURMD_NODENAME") == node:
                processes.append(process)
                daemons += [parent for parent in process.parents() if parent.name().startswith("slurmstepd")]
        except psutil.Error:
            continue
    for process in [*daemons, *processes]:  # the daemons first: they would report the end of the processes
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")
    return len({*daemons, *processes})


def test_a_killed_snakemake_takes_its_jobs_up_again_and_submits_none_twice(slurm: Slurm, tmp_path: Path) -> None:
    snakefile = """
        rule all:
            input: expand("part/{i}", i=range(3)), "tail"
        rule part:
            output: "part/{i}"
            resources: mem_mb=100
            shell:
                "echo run >> runs-{wildcards.i}; echo half > {output}; "
                "while [ ! -e go-{wildcards.i} ]; do sleep 0.1; done; echo done > {output}"
        rule tail:
            input: expand("part/{i}", i=range(3))
            output: "tail"
            resources: mem_mb=100
            shell: "cat {input} > {output}"
    """
    first = slurm.snakemake(tmp_path, snakefile=snakefile)
    first.until(lambda: all((tmp_path / f"runs-{i}").exists() for i in range(3)), "all parts run")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    (tmp_path / "go-0").touch()
    until(lambda: len(slurm.running()) == 2, "one part ended while nobody watched")
    slurm.snakemake(tmp_path, "--unlock").succeed()
    second = slurm.snakemake(tmp_path)
    second.until(
        lambda: second.log.read_text().count("of an earlier run, which is taken over") == 3, "jobs are taken over"
    )
    for i in (1, 2):
        (tmp_path / f"go-{i}").touch()
    second.succeed()
    assert (tmp_path / "tail").read_text() == "done\n" * 3
    assert all((tmp_path / f"runs-{i}").read_text() == "run\n" for i in range(3))
    assert len(slurm.jobs("part", expected=3)) == 3
    third = slurm.snakemake(tmp_path, "--dry-run")
    assert "Nothing to be done" in third.succeed(), "what was taken over has been recorded"


def test_an_interrupted_snakemake_cancels_its_jobs(slurm: Slurm, tmp_path: Path) -> None:
    run = slurm.snakemake(
        tmp_path,
        snakefile="""
            rule all:
                input: expand("part/{i}", i=range(3))
            rule part:
                output: "part/{i}"
                resources: mem_mb=100
                shell: "touch started; sleep 600"
        """,
    )
    run.until((tmp_path / "started").exists, "jobs run")
    os.kill(run.process.pid, signal.SIGINT)
    run.fail()
    until(lambda: not slurm.queued(), "its jobs have left the queue")
    assert not list((tmp_path / "slurm" / "tickets").glob("*.json"))
