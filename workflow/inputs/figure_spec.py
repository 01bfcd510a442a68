"""How a study's figure is drawn: its key ``figure``.

``points``   a row of dots for each variant, or a line over the study's ``axis`` where that is numeric (the default)
``bars``     a bar for each variant with the paper's value as a hollow marker on it
``scatter``  a metric over another, the points named; ``join`` connects those that share a field of the configuration
``curves``   quantities over the epochs of the runs: of the journal (``pretrain.teacher_entropy``) or of an evaluation
             that measures several epochs (``knn_curve.teacher_eK``)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dino.config import RunConfig
from workflow.inputs.documents import Document
from workflow.inputs.evaluations import evaluations

DRAWING_VERSION = 2
"""Raised by hand when code changes how figures look: all are drawn again."""
JOURNAL = ("loss", "teacher_entropy", "kl")
"""The journal's quantities that curves may show, as ``pretrain.<quantity>``."""

Kind = Literal["points", "bars", "scatter", "curves"]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_List = Annotated[list[str], Field(min_length=1)]
Names = Annotated[_List, BeforeValidator(_listed, json_schema_input_type=str | _List)]
"""Names of metrics or quantities; one needs no list."""


class FigureSpec(BaseModel):
    """How a figure is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "points"
    x: str | None = None
    """The metric of a scatter's x axis."""
    y: Names | None = None
    """What is drawn, a panel each: metrics of the study (all where nothing is said), or quantities of curves."""
    log_x: bool = False
    """Whether the x axis of a scatter is logarithmic."""
    join: str | None = None
    """A configuration field: points of a scatter with the same value share a colour and a line."""


def _short(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Figure = Annotated[FigureSpec, BeforeValidator(_short, json_schema_input_type=Kind | FigureSpec)]
"""The key ``figure`` of a study; a word alone is its ``kind``."""


def check_figure(spec: FigureSpec, metrics: Sequence[str], document: Document) -> None:
    """Check what the schema alone cannot, of the figure of a study with ``metrics``.

    Raises:
        UserError: The first mistake, with file, line and key.
    """
    if spec.kind == "scatter" and spec.x is None:
        document.fail(("figure",), "a scatter needs 'x', a metric of the study")
    if spec.kind == "curves" and spec.y is None:
        document.fail(
            ("figure",), "curves need 'y', quantities such as pretrain.teacher_entropy or knn_curve.teacher_eK"
        )
    for key in ("x", "log_x", "join"):
        if getattr(spec, key) and spec.kind != "scatter":
            document.fail(("figure", key), f"only a scatter has it, and this is a figure of {spec.kind}")
    if spec.x is not None and spec.x not in metrics:
        document.fail_unknown(("figure", "x", spec.x), metrics, what="metric")
    known, what = (_quantities(metrics), "quantity") if spec.kind == "curves" else (metrics, "metric")
    for index, name in enumerate(spec.y or []):
        if name not in known:
            document.fail_unknown(("figure", "y", index, name), known, what=what)
    if spec.kind == "curves" and len({name.split(".")[0] for name in spec.y or []}) > 1:
        document.fail(("figure", "y"), "curves of one figure are quantities of one evaluation, or of the journal")
    if spec.join is not None and spec.join not in RunConfig.model_fields:
        document.fail_unknown(("figure", "join", spec.join), RunConfig.model_fields, what="configuration field")


def _quantities(metrics: Sequence[str]) -> list[str]:
    """What curves may show: the journal's quantities, and those metrics of the evaluations that each epoch has."""
    names = [f"pretrain.{name}" for name in JOURNAL]
    for evaluation in dict.fromkeys(metric.split(".")[0] for metric in metrics):
        if evaluation in evaluations():
            declared = evaluations()[evaluation].kind.metrics
            names += [f"{evaluation}.{name}" for name in declared if name.endswith("_eK")]
    return names
