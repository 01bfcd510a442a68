"""JSON schemas of the files that people write, from the models that check them, so that editors help while typing.

A study begins with ``# yaml-language-server: $schema=../workflow/schemas/study.schema.json`` where the editor wants it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dino.config import BACKBONE_FIELDS, RunConfig
from dino.files import write_json
from workflow.inputs.call import Settings
from workflow.inputs.scales import Scale
from workflow.inputs.studies import HIDDEN, Study


def schemas() -> dict[str, dict[str, Any]]:
    """Each schema by its file's name."""
    return {
        "study.schema.json": study_schema(),
        "scale.schema.json": scale_schema(),
        "config.schema.json": _titled(Settings.model_json_schema(), "Settings of one call of snakemake"),
    }


def study_schema() -> dict[str, Any]:
    """The schema of `ablations/*.yaml`; ``set`` knows every field of a run."""
    schema = _without_hidden(_titled(Study.model_json_schema(), "A study"))
    schema["$defs"]["Variant"]["properties"]["set"] = _run_fields(RunConfig.model_fields)
    return schema


def scale_schema() -> dict[str, Any]:
    """The schema of `workflow/scales/*.yaml`."""
    schema = _without_hidden(_titled(Scale.model_json_schema(), "A scale"))
    properties = schema["properties"]
    properties["set"] = _run_fields(RunConfig.model_fields)
    properties["architectures"]["additionalProperties"] = _run_fields(BACKBONE_FIELDS)
    for section in ("map", "multiply"):
        properties[section]["propertyNames"] = {"enum": list(RunConfig.model_fields)}
    return schema


def write_schemas(folder: Path) -> list[Path]:
    """Write all schemas into ``folder`` and return their paths."""
    for name, schema in schemas().items():
        write_json(folder / name, schema)
    return [folder / name for name in schemas()]


def _run_fields(names: Any) -> dict[str, Any]:
    fields = RunConfig.model_json_schema()["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {key: value for key, value in fields[name].items() if key != "title"} for name in names},
    }


def _titled(schema: dict[str, Any], title: str) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _without_hidden(schema: dict[str, Any]) -> dict[str, Any]:
    for name in HIDDEN:
        del schema["properties"][name]
    schema["required"] = [name for name in schema["required"] if name not in HIDDEN]
    return schema
