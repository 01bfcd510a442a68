"""Snakemake executor plugin that runs every job through submitit: on Slurm, or as local processes where there is none.

``Executor`` and ``ExecutorSettings`` are loaded on first use, because the jobs themselves import this package (their
payload lives in :mod:`.payload`) and must not pay for importing Snakemake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.settings import CommonSettings

    from .executor import Executor
    from .settings import ExecutorSettings

    common_settings: CommonSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


def __getattr__(name: str) -> Any:
    """Load what Snakemake's plugin registry asks for (PEP 562)."""
    if name == "Executor":
        from .executor import Executor

        return Executor
    if name in ("ExecutorSettings", "common_settings"):
        from . import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
