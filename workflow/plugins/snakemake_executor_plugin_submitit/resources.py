"""From a rule's resources to what is asked of submitit. Pure functions: nothing here talks to a cluster."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

# Resources `slurm_<name>` that submitit's Slurm executor knows by a parameter of its own ...
SUBMITIT_PARAMETERS = {
    "slurm_partition": "partition",
    "slurm_account": "account",
    "slurm_qos": "qos",
    "slurm_constraint": "constraint",
    "slurm_comment": "comment",
    "slurm_exclude": "exclude",
    "slurm_nodelist": "nodelist",
    "slurm_exclusive": "exclusive",
    "slurm_gres": "gres",
    "slurm_mem_per_cpu": "mem_per_cpu",
    "slurm_mem_per_gpu": "mem_per_gpu",
    "slurm_mail_type": "mail_type",
    "slurm_mail_user": "mail_user",
    "slurm_wckey": "wckey",
}
# ... and those that go into the batch script as they are.
SBATCH_OPTIONS = {
    "slurm_reservation": "reservation",
    "slurm_licenses": "licenses",
    "slurm_nice": "nice",
}
EXTRA = "slurm_extra"
KNOWN_SLURM_NAMES = (*SUBMITIT_PARAMETERS, *SBATCH_OPTIONS, EXTRA)

# Options of sbatch that are the executor's own business: with another value results or logs would not be found.
RESERVED_OPTIONS = frozenset(
    {"array", "error", "job-name", "kill-on-invalid-dep", "ntasks", "open-mode", "output", "parsable", "signal", "wrap"}
)


@dataclass(frozen=True)
class Request:
    """What one job asks for, independent of the cluster; equal requests may share a job array."""

    runtime_min: int
    cpus_per_task: int
    nodes: int = 1
    tasks_per_node: int = 1
    mem_mb: int | None = None
    gpus_per_node: int = 0
    gpu_model: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()  # submitit's names, Slurm only
    options: tuple[tuple[str, Any], ...] = ()  # sbatch's names, Slurm only

    @property
    def tasks(self) -> int:
        """Number of tasks of the job, over all its nodes."""
        return self.nodes * self.tasks_per_node


def check_names(rule: str, names: Iterable[str]) -> None:
    """Raise a WorkflowError for a ``slurm_*`` resource that does not exist, naming the nearest that does."""
    for name in names:
        if not name.startswith("slurm_") or name in KNOWN_SLURM_NAMES:
            continue
        nearest = difflib.get_close_matches(name, KNOWN_SLURM_NAMES, n=1, cutoff=0.5)
        hint = (
            f"the nearest known name is '{nearest[0]}'" if nearest else f"known names: {', '.join(KNOWN_SLURM_NAMES)}"
        )
        raise WorkflowError(
            f"Rule {rule}: unknown resource '{name}'; {hint}. Other options of sbatch go into '{EXTRA}'."
        )


def parse_extra(rule: str, text: str) -> dict[str, Any]:
    """Parse ``slurm_extra``, e.g. ``"--reservation=paper --exclusive"``, into sbatch options.

    Raises:
        WorkflowError: for short options, stray words and options that the executor sets itself.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise WorkflowError(f"Rule {rule}: cannot read {EXTRA}={text!r}: {error}.") from error
    options: dict[str, Any] = {}
    pending: str | None = None  # an option that may still get its value as the next word
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if name in RESERVED_OPTIONS:
                raise WorkflowError(f"Rule {rule}: {EXTRA} must not set --{name}: the executor needs it for itself.")
            options[name] = value if equals else True
            pending = None if equals else name
        elif pending is not None:
            options[pending] = word
            pending = None
        else:
            raise WorkflowError(f"Rule {rule}: {EXTRA} takes long options of sbatch ('--name=value'), not {word!r}.")
    return options


def request_from_resources(
    *, rule: str, resources: Mapping[str, Any], threads: int, default_runtime_min: int
) -> Request:
    """Translate a job's resources.

    Raises:
        WorkflowError: for unknown ``slurm_*`` names and for values that cannot be meant.
    """
    check_names(rule, resources)
    nodes = _count(rule, resources, "nodes", default=1, least=1)
    tasks_per_node = _count(rule, resources, "tasks_per_node", default=0, least=0)
    tasks = _count(rule, resources, "tasks", default=0, least=0)
    if tasks and tasks_per_node and tasks != nodes * tasks_per_node:
        raise WorkflowError(f"Rule {rule}: tasks={tasks} is not nodes={nodes} times tasks_per_node={tasks_per_node}.")
    if tasks and tasks % nodes:
        raise WorkflowError(f"Rule {rule}: tasks={tasks} cannot be spread evenly over nodes={nodes}.")
    tasks_per_node = tasks_per_node or (tasks // nodes if tasks else 1)
    gpu_name = "gpus_per_node" if "gpus_per_node" in resources else "gpu"
    mem_mb = _count(rule, resources, "mem_mb", default=0, least=0) or None
    parameters = {SUBMITIT_PARAMETERS[name]: resources[name] for name in SUBMITIT_PARAMETERS if name in resources}
    options = {SBATCH_OPTIONS[name]: resources[name] for name in SBATCH_OPTIONS if name in resources}
    if resources.get(EXTRA):
        options.update(parse_extra(rule, str(resources[EXTRA])))
    if mem_mb and ("mem_per_cpu" in parameters or "mem_per_gpu" in parameters):
        raise WorkflowError(f"Rule {rule}: give either mem_mb or slurm_mem_per_cpu / slurm_mem_per_gpu, not both.")
    model = resources.get("gpu_model")
    return Request(
        runtime_min=_count(rule, resources, "runtime", default=default_runtime_min, least=1),
        cpus_per_task=_count(rule, resources, "cpus_per_task", default=max(1, threads), least=1),
        nodes=nodes,
        tasks_per_node=tasks_per_node,
        mem_mb=mem_mb,
        gpus_per_node=_count(rule, resources, gpu_name, default=0, least=0),
        gpu_model=None if model is None else str(model),
        parameters=tuple(sorted(parameters.items())),
        options=tuple(sorted(options.items())),
    )


def slurm_parameters(request: Request, *, signal_delay_s: int, array_parallelism: int, setup: str) -> dict[str, Any]:
    """Return the parameters for submitit's ``SlurmExecutor``."""
    options: dict[str, Any] = dict(request.options)
    if "no-requeue" not in options:
        options.setdefault("requeue", True)  # clusters with JobRequeue=0 refuse `scontrol requeue` otherwise
    # From Slurm 22.05 on srun no longer takes --cpus-per-task over from sbatch.
    srun = [f"--cpus-per-task={request.cpus_per_task}"]
    if request.tasks > 1:
        srun.append("--kill-on-bad-exit=1")  # else one crashed rank leaves the others waiting for it
    parameters: dict[str, Any] = {
        **dict(request.parameters),
        "time": request.runtime_min,
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "signal_delay_s": bounded_signal_delay(request.runtime_min, signal_delay_s),
        "array_parallelism": array_parallelism,
        "srun_args": srun,
    }
    if request.mem_mb:
        parameters["mem"] = f"{request.mem_mb}MB"
    if request.gpus_per_node:
        if request.gpu_model:
            options["gpus-per-node"] = f"{request.gpu_model}:{request.gpus_per_node}"
        else:
            parameters["gpus_per_node"] = request.gpus_per_node
    if setup:
        parameters["setup"] = [setup]
    parameters["additional_parameters"] = options
    return parameters


def local_parameters(request: Request, *, rule: str, signal_delay_s: int, setup: str) -> dict[str, Any]:
    """Return the parameters for submitit's ``LocalExecutor``; raises a WorkflowError for more than one node."""
    if request.nodes > 1:
        raise WorkflowError(f"Rule {rule} asks for {request.nodes} nodes; the local cluster has one.")
    parameters: dict[str, Any] = {
        "timeout_min": request.runtime_min,
        "tasks_per_node": request.tasks_per_node,
        "gpus_per_node": request.gpus_per_node,
        "signal_delay_s": bounded_signal_delay(request.runtime_min, signal_delay_s),
    }
    if setup:
        parameters["setup"] = [setup]
    return parameters


def bounded_signal_delay(runtime_min: int, signal_delay_s: int) -> int:
    """Return the delay, at most half the time limit: a job warned before it started could do nothing."""
    return min(signal_delay_s, 30 * runtime_min)


def _count(rule: str, resources: Mapping[str, Any], name: str, *, default: int, least: int) -> int:
    value = resources.get(name)
    if value is None:
        return default
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise WorkflowError(f"Rule {rule}: resource {name}={value!r} must be an integer of at least {least}.")
    return number
