"""``python -m snakemake_executor_plugin_submitit.nested ARGS``: the nested Snakemake of one job.

The main process retries failed jobs, with more resources for each attempt; Snakemake passes ``--retries 0`` to nested
processes for that reason, which a rule's own ``retries:`` overrides. Here it does not.
"""

from __future__ import annotations

from snakemake.cli import main
from snakemake.rules import Rule


def without_retries() -> None:
    """Make every rule of this process run once."""
    Rule.restart_times = property(lambda rule: 0, lambda rule, value: None)


if __name__ == "__main__":
    without_retries()
    main()
