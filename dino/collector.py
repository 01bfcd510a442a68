"""Python's garbage collector in a process whose modules are most of what it holds."""

from __future__ import annotations

import atexit
import gc

FULL_COLLECTION_AFTER = 100
"""Collections of younger objects between two full ones, 10 by default. The imports of a job bring about 80."""


def spare_modules() -> None:
    """Keep the collector from searching what is imported; for the first line of a command.

    torch and timm are 380,000 objects and no garbage. By default they are searched six times while they are imported,
    and once more as the process ends: a quarter to a third of the CPU time of a job that imports them and does little
    else. Young objects are collected as ever.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_AFTER)
    atexit.register(gc.freeze)  # the system takes back what is left
