"""Where an evaluation's data set lies, for sets that are no lists of labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dino.errors import UserError, suggest
from dino.registry import Layout, dataset_version, load_registry, locate, missing_reason


@dataclass(frozen=True)
class DataFolder:
    """A data set's folder and what to call it."""

    name: str
    """Of the registry, or the folder's."""
    root: Path
    version: str = ""
    """`dataset_version` of a generated set; empty for others."""


def find_data_folder(name_or_folder: str | Path, *, layout: Layout) -> DataFolder:
    """The folder of a registered data set that lies in ``layout``, or a folder taken as it is.

    Raises:
        UserError: The set is unknown, missing, of another layout, or generated with other settings than registered.
    """
    specs = load_registry()
    spec = specs.get(str(name_or_folder))
    if spec is None:
        folder = Path(name_or_folder).expanduser()
        if not folder.is_dir():
            fitting = sorted(name for name, each in specs.items() if each.layout == layout)
            raise UserError(
                f"'{name_or_folder}' is neither a registered data set{suggest(str(name_or_folder), fitting)} "
                f"(of the layout '{layout}' there are: {', '.join(fitting) or 'none'}) nor a folder"
            )
        return DataFolder(name=folder.resolve().name, root=folder.resolve())
    if spec.layout != layout:
        raise UserError(f"data set '{spec.name}' has the layout '{spec.layout}', and '{layout}' is needed here")
    root = locate(spec)
    if root is None:
        raise UserError(missing_reason(spec) or f"data set '{spec.name}' is missing")
    version = dataset_version(spec)
    if spec.kind == "generated":
        from dino.data.datasets import check_manifest  # imports torch

        check_manifest(spec, root, version)
    return DataFolder(name=spec.name, root=root, version=version)
