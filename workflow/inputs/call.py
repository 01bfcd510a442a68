"""The workflow's settings: `workflow/config.yaml` and what ``snakemake --config`` puts over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dino.errors import UserError, explain_validation
from workflow.inputs.documents import build_model, read_document
from workflow.inputs.evaluations import check_evaluation_names
from workflow.inputs.weights import WeightsChoice


class Settings(BaseModel):
    """What a person may choose for one call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: str = "laptop"
    """A file of `workflow/scales/`."""
    studies: Literal["headline", "all"] | list[str] = "headline"
    """Names of files in `ablations/`, separated by commas; or ``headline``; or ``all``."""
    headline: Annotated[list[str], Field(min_length=1)]
    """The studies that run where nothing is said."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Runs of each variant, with seeds 0, 1, ..."""
    evaluations: Literal["all"] | list[str] = "all"
    """Entries of `workflow/evaluations.yaml`, separated by commas: only these run; or ``all``."""
    weights: WeightsChoice = "pretrained"
    """``released``: the authors' weights in place of the pretrainings that they are of, at a scale that fits them;
    ``released-only``: nothing else is trained either."""
    tracking: Literal["on", "off"] = "on"
    """Whether runs are mirrored to MLflow while they go."""

    warm: Literal["on", "off"] = "on"
    """Whether jobs on this machine start in a process that has torch imported, which saves each some seconds of CPU."""

    @field_validator("studies", "evaluations", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("headline", "all"):
            return [name.strip() for name in value.split(",") if name.strip()]
        return value

    @field_validator("evaluations")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value != "all":
            check_evaluation_names(value)
        return value

    @field_validator("tracking", "warm", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # YAML and Snakemake's --config read a bare `off` as false.
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check Snakemake's merged ``config``.

    Raises:
        UserError: Names the key; a misspelt one comes with the nearest.
    """
    try:
        return Settings(**config)
    except ValidationError as error:
        raise UserError(f"--config or workflow/config.yaml: {explain_validation(error, Settings)}") from None


def load_settings(root: Path, **chosen: Any) -> Settings:
    """`workflow/config.yaml` of the project in ``root``, with ``chosen`` values over it.

    Raises:
        UserError: A mistake in the file (named with its line) or in a chosen value.
    """
    document = read_document(root / "workflow" / "config.yaml")
    build_model(Settings, document)
    return read_settings({**document.values, **chosen})


def headline_studies(root: Path) -> list[str]:
    """The default studies, from `workflow/config.yaml` of the project in ``root``."""
    return load_settings(root).headline
