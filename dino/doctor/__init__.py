"""``dino doctor``: what is installed, reachable and missing. Imports no torch (it asks a second process)."""

from __future__ import annotations

from dino.doctor.datasets import examine_datasets
from dino.doctor.environment import examine_devices, examine_machine, examine_packages
from dino.doctor.findings import Finding
from dino.doctor.services import examine_services
from dino.doctor.studies import ask_needs
from dino.doctor.weights import examine_weights

__all__ = ["Finding", "examine"]


def examine(*, images: bool = True) -> list[Finding]:
    """Everything that the doctor looks at, in the order in which it is shown.

    Args:
        images: Count the images of every data set, decode one of each class, and compare published hashes.
    """
    needs = ask_needs()
    return [
        *examine_packages(),
        *examine_machine(),
        *examine_devices(),
        *examine_datasets(needs, images=images),
        *examine_weights(needs, hashes=images),
        *examine_services(),
    ]
