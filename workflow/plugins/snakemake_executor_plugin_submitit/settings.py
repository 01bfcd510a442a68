"""What a user can set: ``--submitit-<name>`` on the command line, ``submitit-<name>:`` in a profile."""

import shutil
from dataclasses import dataclass, field

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

CLUSTERS = ("auto", "slurm", "local", "debug")

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # sbatch exports the environment of the main process; secrets never enter a job's files
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
    pass_group_args=True,
)


# The field types must be real types, not strings: Snakemake builds its command line from them. Hence no Optional here
# and plain defaults; an empty string stands for "not set".
@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings of the submitit executor."""

    cluster: str = field(
        default="auto",
        metadata={
            "help": "Where jobs run: 'slurm'; 'local' (processes on this machine); 'debug' (inside the Snakemake "
            "process, one at a time); 'auto' is slurm where sbatch is found and local elsewhere.",
            "choices": CLUSTERS,
        },
    )
    folder: str = field(
        default=".snakemake/submitit",
        metadata={
            "help": "Folder for the jobs' logs, submitit's files and the tickets by which a restarted Snakemake finds "
            "its jobs again. Must be on a file system that the nodes share.",
        },
    )
    direct: str = field(
        default="on",
        metadata={
            "help": "'on': a rule with plain shell: runs its command directly on the node, on every task. 'off': every "
            "job starts a nested Snakemake, as script:, run:, conda, containers, shadow, benchmark, groups do anyway.",
            "choices": ("on", "off"),
        },
    )
    arrays: str = field(
        default="all",
        metadata={
            "help": "Which rules' jobs may share one job array when they become ready together and ask for the same "
            "resources: 'all', 'none' or rule names separated by commas.",
        },
    )
    array_size: int = field(
        default=1000,
        metadata={"help": "Most jobs in one array (Slurm's MaxArraySize is 1001 unless raised)."},
    )
    array_parallelism: int = field(
        default=256,
        metadata={"help": "Most jobs of one array that run at the same time."},
    )
    signal_delay: int = field(
        default=90,
        metadata={
            "help": "Seconds before the time limit at which a job gets SIGUSR2, to save its state and leave with exit "
            "status 75, upon which it is requeued.",
        },
    )
    max_requeues: int = field(
        default=30,
        metadata={
            "help": "How often one job may be requeued after a time-out or after leaving with exit status 75 unasked. "
            "Pre-emptions do not count.",
        },
    )
    default_runtime: int = field(
        default=120,
        metadata={"help": "Time limit, in minutes, of jobs whose rule sets no 'runtime'."},
    )
    accounting_interval: int = field(
        default=20,
        metadata={"help": "Least seconds between two questions to Slurm (sacct, squeue) about all jobs together."},
    )
    lost_after: int = field(
        default=120,
        metadata={
            "help": "Seconds after which a job that left no result and that neither sacct nor squeue lists counts as "
            "lost. Time during which Slurm does not answer is not counted.",
        },
    )
    log_tail: int = field(
        default=20,
        metadata={"help": "Lines of a failed job's log that are shown with the error."},
    )
    setup: str = field(
        default="",
        metadata={"help": "Shell line to run on the node before each job, for example 'module load cuda'."},
    )

    def __post_init__(self) -> None:
        for name, least in (
            ("array_size", 1),
            ("array_parallelism", 1),
            ("signal_delay", 0),
            ("max_requeues", 0),
            ("default_runtime", 1),
            ("accounting_interval", 0),
            ("lost_after", 0),
            ("log_tail", 0),
        ):
            if getattr(self, name) < least:
                raise WorkflowError(f"--submitit-{name.replace('_', '-')} must be at least {least}.")

    def resolved_cluster(self) -> str:
        """Return ``slurm``, ``local`` or ``debug``; raises a WorkflowError where Slurm is asked for and absent."""
        if self.cluster == "auto":
            return "slurm" if shutil.which("sbatch") else "local"
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise WorkflowError("--submitit-cluster slurm: no sbatch and srun on the PATH of this machine.")
        return self.cluster

    def may_be_array(self, rule: str) -> bool:
        """Return whether jobs of this rule may be submitted together as one array."""
        if self.arrays in ("all", "none"):
            return self.arrays == "all"
        return rule in {name.strip() for name in self.arrays.split(",")}
