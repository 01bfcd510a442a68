"""Pictures of a study: what `dino attention` and `dino tsne` draw of its networks (Figs. 1, 3, 8, 10, 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dino.protocols import PICTURES
from dino.registry import load_registry
from workflow.inputs.documents import NAME, Document, fail_validation


class Picture(BaseModel):
    """One entry of a study's ``pictures``, by a name of a-z, 0-9 and _."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    paper: str
    """The figure, e.g. ``Fig. 3``."""
    of: str
    """The variant whose network is drawn; of several seeds the first."""
    draw: Literal["attention", "tsne"]
    dataset: str
    """The paper's name of the data set whose test images are drawn; a scale says what plays its part."""
    set: dict[str, Any] = {}
    """Settings (`dino.protocols.settings`); what a scale says goes before."""


def check_pictures(pictures: Mapping[str, Picture], variants: Sequence[str], document: Document) -> None:
    """Check what the schema alone cannot, of the pictures of a study with ``variants`` that have networks.

    Raises:
        UserError: The first mistake, with file, line and key.
    """
    for name, picture in pictures.items():
        where = ("pictures", name)
        if not NAME.fullmatch(name):
            document.fail(where, "a picture's name may hold a-z, 0-9 and _ only, and starts with a letter")
        if picture.of not in variants:
            document.fail_unknown((*where, "of", picture.of), variants, what="variant")
        if picture.dataset not in load_registry():
            document.fail_unknown((*where, "dataset", picture.dataset), load_registry(), what="data set")
        try:
            PICTURES[picture.draw].build_settings(picture.set)
        except ValidationError as error:
            fail_validation(document, error, PICTURES[picture.draw].settings_model, prefix=(*where, "set"))
