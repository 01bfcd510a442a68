"""``dino doctor``: what is installed, reachable and missing. Imports no torch (it asks a second process)."""

from __future__ import annotations

from dino.doctor.datasets import examine_datasets
from dino.doctor.environment import examine_devices, examine_machine, examine_packages
from dino.doctor.findings import Finding
from dino.doctor.services import examine_services

__all__ = ["Finding", "examine"]


def examine(*, images: bool = True) -> list[Finding]:
    """Everything that the doctor looks at, in the order in which it is shown.

    Args:
        images: Count the images of every data set and decode one of each class.
    """
    return [
        *examine_packages(),
        *examine_machine(),
        *examine_devices(),
        *examine_datasets(images=images),
        *examine_services(),
    ]
