"""Settings of the generated data sets: one schema a generator. Imports neither torch nor numpy (planning reads it)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=8)]


class GeneratorSettings(BaseModel):
    """What every generator's settings have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Count = 0


class WorldSettings(BaseModel):
    """Settings of the generated classification world (`dino.data.generated.world`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[int, Field(ge=2)]
    image_size: Pixels = 32
    """Pixels of a side."""
    train_per_class: Positive
    test_per_class: Positive
    seed: Count = 0
    textures: Literal["world", "transfer"] = "world"
    """Which textures are the classes: those of pretraining, or others that no pretraining has seen."""

    @model_serializer(mode="wrap")
    def _without_neutral(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # An option with a neutral default changes no version of a set that was there before it.
        values: dict[str, Any] = handler(self)
        if values["textures"] == "world":
            del values["textures"]
        return values


class VocSettings(GeneratorSettings):
    """Settings of the generated scenes in VOCdevkit's format (`dino.data.generated.scenes`)."""

    classes: Annotated[int, Field(ge=2)]
    train: Positive
    """Images of the list ``train``; ``trainval`` is it and ``val``."""
    val: Positive
    """Images of the list ``val``, the one that masks are evaluated on."""
    test: Positive
    """Images of the list ``test``, without masks."""
    height: Pixels = 64
    width: Pixels = 96
    max_objects: Positive = 4


class DavisSettings(GeneratorSettings):
    """Settings of the generated videos in DAVIS 2017's format (`dino.data.generated.videos`)."""

    train: Count = 0
    """Sequences of the list ``train``."""
    val: Positive
    """Sequences of the list ``val``."""
    frames: Annotated[int, Field(ge=3)] = 12
    height: Pixels = 64
    width: Pixels = 96
    max_objects: Positive = 3


class LandmarkSettings(GeneratorSettings):
    """Settings of the generated landmarks in Revisited Oxford's and Paris' format (`dino.data.generated.landmarks`)."""

    name: Literal["roxford5k", "rparis6k"] = "roxford5k"
    """The set whose place it takes: its ground truth is ``gnd_<name>.pkl``."""
    landmarks: Annotated[int, Field(ge=2)]
    queries: Positive = 2
    """Queries a landmark."""
    easy: Positive = 6
    """Easy views a landmark in the database."""
    hard: Positive = 6
    """Hard views a landmark: dark, turned, cropped, partly hidden."""
    junk: Count = 2
    """Views a landmark that neither help nor harm: hardly any of it is seen."""
    distractors: Count = 100
    """Images of none of the landmarks."""
    size: Pixels = 64
    """Pixels of an image's long side."""


class CopydaysSettings(GeneratorSettings):
    """Settings of the generated copies in Copydays' format (`dino.data.generated.copies`)."""

    originals: Annotated[int, Field(ge=2, le=8000)]
    strong: Annotated[int, Field(ge=1, le=99)] = 2
    """Strongly attacked copies of each original."""
    distractors: Count = 100
    whitening: Count = 200
    size: Pixels = 64
    """Pixels of an image's long side."""


SETTINGS: dict[str, type[BaseModel]] = {
    "world": WorldSettings,
    "voc": VocSettings,
    "davis": DavisSettings,
    "landmarks": LandmarkSettings,
    "copydays": CopydaysSettings,
}
"""The settings' schema of each generator."""

AnySettings = WorldSettings | VocSettings | DavisSettings | LandmarkSettings | CopydaysSettings
