"""The resolved configuration of one pretraining, its canonical form and its fingerprint.

`RunConfig` is the one schema of a run: recipes are written in it (in the paper's units), study variants override its
fields, scales rewrite them into what is run, and `dino pretrain` reads it. Its defaults are the paper's common
default of the 100-epoch ablations (paper.md, A.8, B.9), so that a slug shows only what is unusual.

This module imports neither torch nor Snakemake: planning the whole paper reads it hundreds of times.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dino.errors import UserError, explain_validation, suggest
from dino.objectives import OBJECTIVES
from dino.protocols import CODE_VERSION

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Range = tuple[float, float]


ARCHITECTURES = ("vit_nano", "vit_tiny", "vit_small", "vit_base", "resnet_nano", "resnet50")
CONVNETS = ("resnet_nano", "resnet50")
"""Architectures without patches."""
BACKBONE_FIELDS = ("arch", "patch_size", "embed_dim", "depth", "num_heads")
"""The fields of `RunConfig` that make a backbone."""


def objective_names() -> tuple[str, ...]:
    """What `RunConfig.objective` may be: the objectives, and the supervised training of ViT-S/8."""
    return (*OBJECTIVES, "supervised")


def _known_objective(name: str) -> str:
    if name not in objective_names():
        known = ", ".join(objective_names())
        raise ValueError(f"no such objective{suggest(name, objective_names())} (known: {known})")
    return name


ObjectiveName = Annotated[
    str, AfterValidator(_known_objective), Field(json_schema_extra={"enum": [*objective_names()]})
]


class RunConfig(BaseModel):
    """Everything that decides the result of one pretraining (paper.md, A).

    Durations are epochs (fractions are allowed and become whole steps), temperatures and momenta have no unit, sizes
    are pixels. ``batch_size`` is the whole batch: over all ranks and all accumulated micro-batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    # --- data -------------------------------------------------------------------------------------------------------
    dataset: str = "imagenet"
    """Name of a registered data set; its path is no part of a run's identity."""
    dataset_version: str = ""
    """Digest of a generated set's settings, so that another world is another run; empty for real sets."""
    seed: Annotated[int, Field(ge=0)] = 0

    # --- backbone (paper.md, A.1) -------------------------------------------------------------------------------------
    arch: Literal["vit_nano", "vit_tiny", "vit_small", "vit_base", "resnet_nano", "resnet50"] = "vit_small"
    patch_size: Annotated[int, Field(ge=1)] = 16
    embed_dim: Annotated[int, Field(ge=8)] | None = None
    """Overrides the architecture's own width, depth or heads; None keeps them."""
    depth: Annotated[int, Field(ge=1)] | None = None
    num_heads: Annotated[int, Field(ge=1)] | None = None
    drop_path_rate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1

    # --- projection head (paper.md, A.2) ------------------------------------------------------------------------------
    out_dim: Annotated[int, Field(ge=2)] = 65536
    """K, the number of prototypes; BYOL and MoCo-v2 have none and compare vectors of ``head_bottleneck_dim``."""
    head_layers: Annotated[int, Field(ge=1)] = 3
    """MLP layers before the prototypes (3 in the paper: with the prototypes 4 linear layers)."""
    head_hidden_dim: Annotated[int, Field(ge=1)] = 2048
    head_bottleneck_dim: Annotated[int, Field(ge=1)] = 256
    head_bottleneck: bool = True
    """False: no L2 normalisation and no weight-normalised layer (Fig. 9, right)."""
    head_bn: bool = False
    head_activation: Literal["gelu", "relu"] = "gelu"
    norm_last_layer: bool = False
    """True freezes the prototypes' gain at 1."""

    # --- objective and teacher (paper.md, A.4, A.5, B.2) --------------------------------------------------------------
    objective: ObjectiveName = "dino"
    """A name of `dino.objectives.OBJECTIVES`, or ``supervised``."""
    loss: Literal["ce", "mse"] = "ce"
    """DINO only: cross-entropy of softmaxes, or the mean squared error of Tables 7 and 14 (no temperatures)."""
    centering: Literal["center", "softmax_batch", "sinkhorn", "none"] = "center"
    """DINO only: what keeps the teacher's output from one prototype (Table 15; paper.md, A.9). ``none`` is a curve
    of Fig. 7."""
    sinkhorn_temp: Positive = 0.05
    """Of SwAV, and of DINO with ``sinkhorn`` or ``softmax_batch``: takes the teacher temperature's place."""
    sinkhorn_iterations: Annotated[int, Field(ge=1)] = 3
    predictor: bool = False
    """A predictor on the student's side, between head and prototypes (BYOL's own; Tables 7 and 14); has BN with
    ``head_bn``."""
    predictor_hidden_dim: Annotated[int, Field(ge=1)] = 4096
    queue_size: Annotated[int, Field(ge=1)] = 65536
    """MoCo-v2's negatives; 2 * batch_size of them are replaced each step."""
    contrast_temp: Positive = 0.1
    """MoCo-v2's temperature."""
    student_temp: Positive = 0.1
    teacher_temp: NonNegative = 0.07
    """0 means one-hot targets: the argmax of the centred teacher output."""
    warmup_teacher_temp: NonNegative | None = 0.04
    """Start of the teacher temperature's linear warm-up; None holds ``teacher_temp`` from the start."""
    warmup_teacher_temp_epochs: NonNegative = 30
    center_momentum: Fraction = 0.9
    teacher: Literal["momentum", "student_copy", "previous_iteration", "previous_epoch"] = "momentum"
    teacher_momentum: Fraction = 0.996
    """Start of the momentum teacher's cosine schedule; it ends at 1."""

    # --- optimisation (paper.md, A.6) ---------------------------------------------------------------------------------
    epochs: NonNegative = 100
    """0 stops at the initialisation: the random-weights row of a table."""
    batch_size: Annotated[int, Field(ge=1)] = 1024
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    base_lr: Positive = 5e-4
    """Learning rate at batch 256; the peak is base_lr * batch_size / 256."""
    min_lr: NonNegative = 1e-6
    warmup_epochs: NonNegative = 10
    weight_decay: NonNegative = 0.04
    weight_decay_end: NonNegative = 0.4
    clip_grad: NonNegative = 3.0
    """Largest L2 norm of each parameter tensor's gradient; 0 is off."""
    freeze_last_layer_epochs: NonNegative = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate_steps: Annotated[int, Field(ge=1)] = 1
    compile: bool = False

    # --- multi-crop augmentation (paper.md, A.7) ----------------------------------------------------------------------
    global_crop_size: Annotated[int, Field(ge=4)] = 224
    local_crop_size: Annotated[int, Field(ge=4)] = 96
    num_local_crops: Annotated[int, Field(ge=0)] = 6
    global_crop_scale: Range = (0.25, 1.0)
    local_crop_scale: Range = (0.05, 0.25)
    blur_sigma: Range = (0.1, 2.0)
    """Standard deviation of the Gaussian blur in pixels of the crop."""
    color_jitter: NonNegative = 1.0
    """Strength relative to the paper's brightness 0.4, contrast 0.4, saturation 0.2, hue 0.1."""

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        for name in ("global_crop_scale", "local_crop_scale"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= 1.0:
                raise ValueError(f"{name} must satisfy 0 < low <= high <= 1, not ({low:g}, {high:g})")
        if self.arch not in CONVNETS:
            for name in ("global_crop_size", "local_crop_size"):
                if getattr(self, name) < self.patch_size:
                    raise ValueError(f"{name} ({getattr(self, name)}) is smaller than patch_size ({self.patch_size})")
        if self.warmup_epochs > self.epochs > 0:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) exceeds epochs ({self.epochs:g})")
        self._check_objective()
        return self

    def _check_objective(self) -> None:
        """Refuse what contradicts the objective; an option that it merely does not read is left alone."""
        if self.objective != "dino":
            for name in ("loss", "centering"):
                if getattr(self, name) != RunConfig.model_fields[name].default:
                    raise ValueError(
                        f"{name} ({getattr(self, name)}) is an option of objective dino, not {self.objective}"
                    )
        if self.loss == "mse" and self.centering in ("sinkhorn", "softmax_batch"):
            raise ValueError(f"loss mse compares vectors, so centering must be center or none, not {self.centering}")
        if self.objective == "swav" and self.teacher != "student_copy":
            raise ValueError(
                f"swav takes its targets from the student itself: set teacher to student_copy, not {self.teacher} "
                "(a momentum teacher with Sinkhorn is objective dino with centering sinkhorn)"
            )
        if not self.head_bottleneck and (self.predictor or self.objective in ("byol", "mocov2")):
            who = "a predictor" if self.predictor else f"objective {self.objective}"
            raise ValueError(f"{who} works on the bottleneck's vector, so head_bottleneck cannot be false")


def build_config(values: dict[str, Any], *, where: str = "configuration") -> RunConfig:
    """Validate ``values`` as a `RunConfig`.

    Raises:
        UserError: Names ``where``, the key and, for a misspelt key, the nearest known one.
    """
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain_validation(error, RunConfig)}") from None


def overrides(config: RunConfig) -> dict[str, Any]:
    """The fields that differ from their defaults, sorted, in JSON types. Defaults are left out, so that a new option
    with a neutral default changes no old fingerprint."""
    dumped = config.model_dump(mode="json")
    default = RunConfig().model_dump(mode="json")
    return {key: dumped[key] for key in sorted(dumped) if dumped[key] != default[key]}


def fingerprint(config: RunConfig, *, stage: str = "pretrain") -> str:
    """Ten hex digits that name a run's result: the canonical configuration and the stage's code version."""
    canonical = {"code_version": CODE_VERSION[stage], "config": overrides(config)}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


_SHORT_ARCH = {
    "vit_nano": "vitn",
    "vit_tiny": "vitt",
    "vit_small": "vits",
    "vit_base": "vitb",
    "resnet_nano": "rnnano",
    "resnet50": "rn50",
}

# What a person tells runs apart by, in this order; the rest is in the fingerprint alone.
_SLUG_FIELDS = {
    "loss": "",
    "centering": "",
    "predictor": "predictor",
    "teacher": "teacher",
    "teacher_momentum": "m",
    "center_momentum": "center",
    "warmup_teacher_temp": "warm",
    "teacher_temp": "temp",
    "num_local_crops": "locals",
    "out_dim": "k",
    "head_layers": "layers",
    "head_bottleneck": "bottleneck",
    "head_bn": "bn",
    "head_activation": "act",
    "num_heads": "heads",
    "precision": "",
}


def run_id(config: RunConfig) -> str:
    """Readable slug plus fingerprint, e.g. ``dino-vits16-100ep-temp0.04-s0-1a2b3c4d5e``; made from the configuration
    alone, so that equal configurations are one run however many studies name them."""
    patch = "" if config.arch in CONVNETS else str(config.patch_size)
    parts = [config.objective, f"{_SHORT_ARCH[config.arch]}{patch}"]
    parts.append(f"{config.epochs:g}ep" if config.epochs else "random")
    changed = overrides(config)
    if config.epochs:
        for name, short in _SLUG_FIELDS.items():
            if name in changed:
                value = changed[name]
                shown = {True: "on", False: "off", None: "none"}.get(value, value) if not _is_number(value) else value
                shown = f"{shown:g}" if isinstance(shown, float) else str(shown)
                parts.append(f"{short}{shown}".replace("_", "-"))
    parts.append(f"s{config.seed}")
    parts.append(fingerprint(config))
    return "-".join(parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def config_document(config: RunConfig) -> dict[str, Any]:
    """The content of a run's ``config.yaml``: identity first, then every field, defaults included."""
    return {
        "run_id": run_id(config),
        "fingerprint": fingerprint(config),
        "code_version": CODE_VERSION["pretrain"],
        "config": config.model_dump(mode="json"),
    }


def dump_config(config: RunConfig) -> str:
    """``config.yaml`` as text; the same configuration gives the same bytes."""
    return yaml.safe_dump(config_document(config), sort_keys=False, default_flow_style=None, width=120)


def load_config(path: str | Path) -> RunConfig:
    """Read a ``config.yaml`` or a bare mapping of fields (a recipe).

    Raises:
        UserError: The file is missing, not YAML, or has a wrong key or value.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of configuration keys")
    values = document.get("config", document) if "run_id" in document else document
    config = build_config(values, where=str(path))
    recorded = document.get("fingerprint") if "run_id" in document else None
    if recorded is not None and recorded != fingerprint(config):
        raise UserError(
            f"{path}: its fingerprint {recorded} is not that of its settings ({fingerprint(config)}): the file was "
            "edited by hand or the code version has changed; let `snakemake` write it again"
        )
    return config


RECIPES = Path(__file__).parent / "recipes"


def load_recipe(name: str) -> dict[str, Any]:
    """The fields that the recipe ``name`` (a file in `dino/recipes/`) sets, in the paper's units.

    Raises:
        UserError: No recipe of that name (the nearest is suggested), or a wrong key in it.

    Example:
        >>> from dino.config import RunConfig, load_recipe
        >>> config = RunConfig(**load_recipe("vits16_100ep"))
        >>> config.arch, config.out_dim, config.num_local_crops
        ('vit_small', 65536, 6)
    """
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
        raise UserError(f"no recipe '{name}'{suggest(name, known)} (known: {', '.join(known)})")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    build_config(values, where=str(path))
    return values
