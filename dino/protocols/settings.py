"""Settings of the protocols: what evaluations and scales may say of each, with the paper's values as defaults.

A field is an option of the protocol's subcommand: ``batch_size`` is ``--batch-size``; one that is None is left to it. A
protocol's entry in `dino.protocols.PROTOCOLS` names its model; without one it has no settings.
"""

from __future__ import annotations

import shlex
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pixels = Annotated[int, Field(ge=4)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """No settings: what every model of them begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    elsewhere: ClassVar[frozenset[str]] = frozenset()
    """Fields that are no option of the subcommand: another job takes them."""

    def options(self) -> str:
        """The settings as a command line: ``--k 10 20 --temperature 0.07``."""
        words: list[str] = []
        for name, value in self.model_dump(exclude=set(self.elsewhere)).items():
            flag = f"--{name.replace('_', '-')}"
            if value is True or value is False:
                words.append(flag if value else f"--no-{flag[2:]}")
            elif value is not None:
                values = value if isinstance(value, list | tuple) else [value]
                words += [flag, *(f"{each:.10g}" if isinstance(each, float) else str(each) for each in values)]
        return shlex.join(words)


class FeatureSettings(Settings):
    """How images are prepared for a frozen backbone (paper.md, C.1)."""

    image_size: Pixels = 224
    resize: Pixels = 256
    """Short side before the centre crop, in pixels."""
    batch_size: Count = 128


class KnnSettings(Settings):
    """Weighted k-NN (paper.md, C.1)."""

    k: Annotated[list[Count], Field(min_length=1)] = [10, 20, 100, 200]
    headline_k: int = 20
    temperature: Rate = 0.07

    @model_validator(mode="after")
    def _headline_is_measured(self) -> KnnSettings:
        if self.headline_k not in self.k:
            raise ValueError(f"headline_k must be one of k {self.k}")
        return self


class KnnCurveSettings(Settings):
    """k-NN of teacher and student over a pretraining (paper.md, B.2). Images are prepared as for `FeatureSettings`."""

    elsewhere = frozenset({"snapshots"})

    k: Count = 20
    temperature: Rate = 0.07
    snapshots: Count = 20
    """About how many evenly spaced epochs the pretraining keeps; not stated by the paper (assumption)."""


class LinearSettings(Settings):
    """Linear probes (paper.md, C.2)."""

    epochs: Count = 100
    batch_size: Count = 1024
    lrs: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Base learning rates, at batch 256."""
    headline: Annotated[str, Field(pattern="^(l[1-9][0-9]*|pool)$")] | None = None
    """The feature of ``top1``; None is the paper's for the network's own architecture."""
    image_size: Pixels = 224
    resize: Pixels = 256
    precision: Literal["fp32", "bf16", "fp16"] | None = None


class LogisticSettings(Settings):
    """Logistic regression on frozen features (paper.md, C.4). What is None is left to ``dino logistic``."""

    lambdas: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Strengths of regularisation; 0.1 is the headline's."""
    max_passes: Count | None = None
    """Over the training features, at most."""


class FinetuneSettings(Settings):
    """Fine-tuning by the DeiT recipe (paper.md, C.3). What is None is left to ``dino finetune``, which knows what is
    published of each data set."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    batch_size: Count | None = None
    lr: Rate | None = None
    """At batch 512."""
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    image_size: Pixels | None = None
    resize: Pixels | None = None
    """Short side of a test image before its central crop, in pixels."""
    rand_augment: str | None = None
    """timm's string; empty is off."""
    random_erasing: Annotated[float, Field(ge=0, le=1)] | None = None
    mixup: Annotated[float, Field(ge=0)] | None = None
    cutmix: Annotated[float, Field(ge=0)] | None = None
    repeats: Count | None = None
    """Times an image stands in an epoch."""
    model_ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    head_init_scale: Annotated[float, Field(ge=0)] | None = None


class RetrievalSettings(Settings):
    """Image retrieval (paper.md, C.5). What is None is the published setting of the benchmark: 224 pixels and one
    scale for Oxford, 512 and three for Paris."""

    image_size: Pixels | None = None
    """Longest side."""
    multiscale: bool | None = None


class CopydetectSettings(Settings):
    """Copy detection (paper.md, C.6). What is None is the published side: 320 for 8-pixel patches, else 224."""

    image_size: Pixels | None = None


class DavisSettings(Settings):
    """Video object segmentation (paper.md, C.7). What is None is left to ``dino davis``: the authors' values."""

    image_size: Pixels | None = None
    """Short side."""
    radius: Annotated[int, Field(ge=0)] | None = None
    """Of the window, in patches."""


class MasksSettings(Settings):
    """Attention masks (paper.md, C.8). What is None is left to ``dino masks``."""

    image_size: Pixels | None = None
    """Short side."""


class ThroughputSettings(Settings):
    """Images per second (paper.md, C.11)."""

    image_size: Pixels = 224
    batch_sizes: Annotated[list[Count], Field(min_length=1)] = [128]
    """The headline is at 128, or else the largest."""
    seconds: Rate | None = None
    """Of each batch size."""


class AttentionSettings(Settings):
    """Pictures of attention (paper.md, C.9). What is None is left to ``dino attention``."""

    images: Count = 6
    """How many images of the data set."""
    image_size: Pixels = 480
    heads: str | None = None
    points: list[str] | None = None
    """Reference points, ``50%,25%`` each, whose attention is drawn instead of that of [CLS]."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.6
    overlay: Literal[True] | None = None
    contours: Literal[True] | None = None


class TsneSettings(Settings):
    """t-SNE of class means (paper.md, C.10)."""

    pca: Count = 30
    perplexity: Rate = 20.0
    learning_rate: Rate = 200.0
    iterations: Annotated[int, Field(ge=250)] = 5000
