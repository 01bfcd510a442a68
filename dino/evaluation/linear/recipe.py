"""The settings of linear probes (paper.md, C.2). Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dino.errors import UserError, explain_validation
from dino.protocols import CODE_VERSION

BASE_LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""At batch 256. The paper swept a grid for each network that is not published. This one is an assumption (paper.md,
C.2): it holds the authors' default (0.001), and 0.3 is that of their log of ResNet-50 (issue #131)."""

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

FEATURE = re.compile(r"l[1-9][0-9]*|pool|pooled")
"""Names of features: ``l4`` joins the [CLS] tokens of the last 4 blocks, ``pool`` the last block's [CLS] and mean patch
token, ``pooled`` is a ResNet's."""


class ProbeSettings(BaseModel):
    """Everything that decides the result beside the weights and the data."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    epochs: Count = 100
    batch_size: Count = 1024
    lrs: Annotated[tuple[Rate, ...], Field(min_length=1)] = BASE_LRS
    """Base learning rates; the first epoch's is base * batch_size / 256."""
    features: tuple[str, ...] | None = None
    """None is the paper's: l1, l2, l4, l6 and pool of a ViT, pooled of a ResNet."""
    headline: str | None = None
    """The feature of ``top1``; None is the paper's choice for the architecture."""
    image_size: Count = 224
    resize: Count = 256
    """Short side of a test image before its central crop."""
    held_out: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    """Share of the training images that the learning rate is chosen on."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the backbone; probes are float32."""
    micro_batch: Count = 128
    """Images of one forward pass: the memory that it takes. Crops are drawn by it, so it is part of the result."""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("lrs")
    @classmethod
    def _ascending(cls, lrs: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(lrs)))

    @field_validator("features")
    @classmethod
    def _known(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in features or ():
            if not FEATURE.fullmatch(name):
                raise ValueError(f"no feature '{name}': l<n> joins the last n blocks' [CLS], pool adds the mean patch")
        return features

    @field_validator("headline")
    @classmethod
    def _known_headline(cls, headline: str | None) -> str | None:
        cls._known(None if headline is None else (headline,))
        return headline

    def fingerprint(self, *, weights: str | None, data: list[str]) -> str:
        """Ten hex digits of these settings, the digest of the weights and those of both splits' images."""
        identity = {
            "code_version": CODE_VERSION["linear"],
            "settings": self.model_dump(mode="json"),
            "weights": weights,
            "data": data,
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def build_settings(values: dict[str, Any], *, where: str = "options") -> ProbeSettings:
    """Validate ``values``.

    Raises:
        UserError: Names ``where`` and the key.
    """
    try:
        return ProbeSettings(**values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain_validation(error, ProbeSettings)}") from None
