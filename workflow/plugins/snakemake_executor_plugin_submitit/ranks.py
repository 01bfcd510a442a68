"""Ranks and rendezvous of a job's tasks, as ``env://`` programs want them, from Slurm's or submitit's environment."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping

from submitit.core.job_environment import JobEnvironment

FIRST_PORT = 10_000
PORTS = 20_000


def rank_environment(job: JobEnvironment, *, preset: Mapping[str, str]) -> dict[str, str]:
    """Return RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK, MASTER_ADDR and MASTER_PORT.

    Empty for a job of one task, and where the user has set RANK already. ``CUDA_VISIBLE_DEVICES`` stays as the
    cluster set it: programs choose their device by LOCAL_RANK.
    """
    if job.num_tasks == 1 or "RANK" in preset:
        return {}
    per_node = job.num_tasks // job.num_nodes
    return {
        "RANK": str(job.global_rank),
        "WORLD_SIZE": str(job.num_tasks),
        "LOCAL_RANK": str(job.local_rank),
        "LOCAL_WORLD_SIZE": str(per_node),
        "NODE_RANK": str(job.node),
        "MASTER_ADDR": preset.get("MASTER_ADDR") or reachable_address(job.hostnames[0]),
        "MASTER_PORT": preset.get("MASTER_PORT") or str(rendezvous_port(job.raw_job_id)),
    }


def rendezvous_port(raw_job_id: str) -> int:
    """Return a port that all tasks of the job compute alike and that two jobs on a node hardly share."""
    return FIRST_PORT + int(raw_job_id) % PORTS


def reachable_address(node: str) -> str:
    """Return a name or address under which a Slurm node is reached; its NodeName need not be a host name."""
    if node == socket.gethostname() and "SLURM_JOB_ID" not in os.environ:
        return "127.0.0.1"
    try:
        socket.gethostbyname(node)
    except OSError:
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", "node", node], capture_output=True, text=True, timeout=60, check=False
        )
        address = re.search(r"\bNodeAddr=(\S+)", shown.stdout)
        if address:
            return address.group(1)
    return node
