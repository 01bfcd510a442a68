"""The network that an evaluation runs on, and what its metrics file says of where it is from."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dino.config import RunConfig, build_config, fingerprint, load_config, run_id
from dino.errors import UserError
from dino.metrics import CheckpointIdentity
from dino.models import load_backbone

if TYPE_CHECKING:
    from dino.models.backbone import Backbone
    from dino.models.vit import VisionTransformer

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Where a network is from: the fields that metrics files and feature files share."""

    run_id: str | None
    fingerprint: str | None
    seed: int | None
    """None where the weights came from elsewhere."""
    checkpoint: CheckpointIdentity
    model: dict[str, Any]
    """``arch``, ``patch_size``, ``embed_dim``, ``depth``, ``num_heads``, ``img_size``; None where a ResNet has none."""


def load_evaluated(
    checkpoint: str,
    *,
    key: str = "teacher",
    config: str | None = None,
    arch: str | None = None,
    patch_size: int | None = None,
    seed: int | None = None,
    image_size: int | None = None,
) -> tuple[Backbone, Identity]:
    """A backbone in eval mode on the CPU, and its identity.

    Args:
        checkpoint: A file, or ``random`` for fresh weights.
        key: ``teacher`` or ``student``.
        config: A run's ``config.yaml``, where the checkpoint does not say what it is.
        arch: Architecture, likewise.
        patch_size: Patch side in pixels, likewise.
        seed: Of random weights; None is the configuration's.
        image_size: Pixels that the position table of random weights is made for; None is the configuration's (224).

    Raises:
        UserError: The file or a setting is wrong (`dino.models.load_backbone`).
    """
    settings = load_config(config) if config else None
    if checkpoint == RANDOM:
        settings = _random_config(settings, arch=arch, patch_size=patch_size, seed=seed, image_size=image_size)
    backbone, info = load_backbone(checkpoint, key=key, arch=arch, patch_size=patch_size, config=settings)
    # A run of no epochs is its initialisation; the random weights of any other configuration are not that run.
    run = settings if checkpoint == RANDOM and settings is not None and settings.epochs == 0 else None
    return backbone, Identity(
        run_id=run_id(run) if run else info["run_id"],
        fingerprint=fingerprint(run) if run else info["fingerprint"],
        seed=info["seed"],
        checkpoint=CheckpointIdentity(path=info["path"], sha256=info["sha256"], key=info["key"]),
        model={name: info[name] for name in ("arch", "patch_size", "embed_dim", "depth", "num_heads", "img_size")},
    )


def load_from_options(options: argparse.Namespace, *, image_size: int | None = None) -> tuple[Backbone, Identity]:
    """`load_evaluated` for a command with `add_checkpoint_arguments` and `add_runtime_arguments`."""
    return load_evaluated(
        options.checkpoint,
        key=options.checkpoint_key,
        config=options.config,
        arch=options.arch,
        patch_size=options.patch_size,
        seed=options.seed,
        image_size=image_size,
    )


def require_vit(backbone: Backbone, identity: Identity, *, what: str) -> VisionTransformer:
    """``backbone``, where it has patches and heads.

    Raises:
        UserError: It is a ResNet; ``what`` says what it lacks.
    """
    from dino.models.vit import VisionTransformer

    if not isinstance(backbone, VisionTransformer):
        raise UserError(
            f"{identity.checkpoint.path} is a {identity.model['arch']}, which has no {what}: give a checkpoint of a ViT"
        )
    return backbone


def _random_config(
    config: RunConfig | None,
    *,
    arch: str | None,
    patch_size: int | None,
    seed: int | None,
    image_size: int | None,
) -> RunConfig:
    values: dict[str, Any] = {} if seed is None else {"seed": seed}
    if config is not None:
        return build_config({**config.model_dump(), **values}, where="--seed")
    if arch is None:
        raise UserError("random weights need an architecture: give --config, or --arch and --patch-size")
    values["arch"] = arch
    if patch_size is not None:
        values["patch_size"] = patch_size
    if image_size is not None:
        values["global_crop_size"] = image_size
    return build_config(values, where="--arch, --patch-size, --image-size, --seed")
