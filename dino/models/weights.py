"""Backbones from files: our checkpoints, the authors' released layouts, timm's, or fresh random weights."""

from __future__ import annotations

import argparse
import math
import pathlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dino.config import CONVNETS, RunConfig, build_config
from dino.errors import UserError, suggest
from dino.files import sha256_file
from dino.models.backbone import build_backbone

if TYPE_CHECKING:
    from dino.models.backbone import Backbone

RANDOM = "random"
"""The source that stands for freshly initialised weights."""

StateDict = dict[str, Tensor]

_numpy_scalar = np.float64(0).__reduce__()[0]  # the function that NumPy pickles a scalar as a call of

# What the authors' full checkpoints hold beyond tensors: their command line and, as learning rates, NumPy scalars.
# Restoring these runs none of the file's code. NumPy 1 wrote its scalars under another module's name.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]

_PREFIXES = ("module.", "_orig_mod.")
_CONTAINERS = ("state_dict", "model")


def load_backbone(
    source: str | Path,
    *,
    key: str = "teacher",
    arch: str | None = None,
    patch_size: int | None = None,
    config: RunConfig | None = None,
) -> tuple[Backbone, dict[str, Any]]:
    """A backbone in eval mode on the CPU, with the weights of ``source``.

    Args:
        source: A checkpoint of ours, a file in the authors' layout (full, or the backbone alone), one with timm's
            names, or ``random``.
        key: Which network of a file that holds both, ``teacher`` or ``student``.
        arch: Architecture, where the file does not say; it must not contradict the file.
        patch_size: Patch side in pixels, likewise.
        config: Describes the backbone where the file has no configuration of its own; gives the shape and the seed
            of ``random``.

    Returns:
        The backbone and where it is from: ``path``, ``sha256`` (None for random), ``layout`` (``dino``, ``authors``,
        ``backbone`` or ``random``), ``key`` (None where the file holds one network), ``arch``, ``patch_size`` (None for
        ResNet-50), ``embed_dim``, ``depth``, ``num_heads``, ``img_size`` (that of the position table), and
        ``fingerprint``, ``run_id``, ``step``, ``epoch``, ``seed`` (None where unknown).

    Raises:
        UserError: The file is missing, unreadable, has no network ``key`` or another architecture; or ``arch`` is
            needed and was not given.

    Example:
        >>> import torch
        >>> from dino.models import load_backbone
        >>> backbone, info = load_backbone("random", arch="vit_tiny", patch_size=16)  # or a checkpoint's path
        >>> info["layout"], info["embed_dim"], info["img_size"]
        ('random', 192, 224)
        >>> with torch.inference_mode():
        ...     backbone(torch.rand(1, 3, 224, 224)).shape
        torch.Size([1, 192])
    """
    if str(source) == RANDOM:
        return _random_backbone(arch=arch, patch_size=patch_size, config=config)
    path = Path(source)
    document = read_checkpoint(path)
    info: dict[str, Any] = dict.fromkeys(("fingerprint", "run_id", "step", "epoch", "seed"))
    if document.get("format") == "dino-checkpoint":
        config = build_config(dict(document["config"]), where=f"{path} (its configuration)")
        info.update({name: document.get(name) for name in ("fingerprint", "run_id", "step", "epoch")})
        info.update(seed=config.seed, layout="dino", key=key)
        _refuse_contradiction(path, config, arch=arch, patch_size=patch_size)
    elif isinstance(document.get("teacher"), Mapping) or isinstance(document.get("student"), Mapping):
        info.update(layout="authors", key=key)
    else:
        info.update(layout="backbone", key=None)
    weights = _backbone_weights(path, _select(path, document, key, keyed=info["key"] is not None))
    shape = _infer_shape(path, weights, arch=arch, patch_size=patch_size, config=config)
    backbone = build_backbone(**shape)
    _load(path, backbone, weights, shape)
    info.update(path=str(path), sha256=sha256_file(path), **_describe(shape["arch"], backbone))
    return backbone.eval(), info


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The mapping that a ``torch.save`` file holds, its tensors on the CPU; nothing in it is executed.

    Raises:
        UserError: The file is missing, a folder, damaged, not a checkpoint, or would have to run code.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint file")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the checkpoint file in it, such as {path / 'checkpoint.pth'}")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            # Memory-mapped, only the tensors that are used are read; the format before torch 1.6 cannot be mapped.
            document = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except Exception as error:  # damaged bytes can fail anywhere in the reader
        if blocked := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} holds objects of type {blocked[1]}, which are never loaded because that could run code: save "
                "its state dict alone"
            ) from error
        raise UserError(
            f"{path} is no readable PyTorch checkpoint: it is truncated, damaged or another kind of file "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(document, Mapping):
        raise UserError(f"{path} holds a {type(document).__name__}, not a checkpoint or a state dict")
    return dict(document)


def _random_backbone(
    *, arch: str | None, patch_size: int | None, config: RunConfig | None
) -> tuple[Backbone, dict[str, Any]]:
    if config is None:
        if arch is None:
            raise UserError("random weights need an architecture: give --arch (and --patch-size)")
        config = build_config({"arch": arch, **({"patch_size": patch_size} if patch_size else {})}, where="arguments")
    _refuse_contradiction(RANDOM, config, arch=arch, patch_size=patch_size)
    shape = _shape_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = build_backbone(**shape)
    info = dict.fromkeys(("fingerprint", "run_id", "step", "epoch", "sha256", "key"))
    info.update(path=RANDOM, layout=RANDOM, seed=config.seed, **_describe(shape["arch"], backbone))
    return backbone.eval(), info


def _refuse_contradiction(where: str | Path, config: RunConfig, *, arch: str | None, patch_size: int | None) -> None:
    if arch not in (None, config.arch):
        raise UserError(f"{where} is a {config.arch}, not a {arch}: leave out --arch")
    if patch_size not in (None, config.patch_size) and config.arch not in CONVNETS:
        raise UserError(f"{where} has patches of {config.patch_size} pixels, not {patch_size}: leave out --patch-size")


def _select(path: Path, document: dict[str, Any], key: str, *, keyed: bool) -> dict[str, Any]:
    """The one network's state dict in ``document``."""
    if keyed:
        known = [name for name, value in document.items() if _is_state_dict(value)]
        if key not in known:
            holds = ", ".join(repr(name) for name in known) or "none"
            raise UserError(f"{path} has no network '{key}' (it holds {holds}){suggest(key, known)}")
        return dict(document[key])
    for name in _CONTAINERS:
        if _is_state_dict(document.get(name)):
            return dict(document[name])
    if not _is_state_dict(document):
        keys = ", ".join(repr(str(name)) for name in list(document)[:5]) or "nothing"
        raise UserError(f"{path} holds no weights that this program knows (its keys: {keys})")
    return document


def _is_state_dict(value: Any) -> bool:
    """Whether ``value`` maps names to tensors, some dotted as a module's are (a loss's centre is not)."""
    return (
        isinstance(value, Mapping)
        and any("." in str(name) for name in value)
        and all(isinstance(name, str) and isinstance(entry, Tensor) for name, entry in value.items())
    )


def _backbone_weights(path: Path, state: dict[str, Any]) -> StateDict:
    """The backbone's own entries under its own names: without wrappers' prefixes, projection head or classifier."""
    weights: StateDict = {}
    for name, value in state.items():
        while name.startswith(_PREFIXES):
            name = name.split(".", 1)[1]
        weights[name] = value
    if any(name.startswith("backbone.") for name in weights):
        weights = {name[9:]: value for name, value in weights.items() if name.startswith("backbone.")}
        weights = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in weights.items()}
    weights = {name: value for name, value in weights.items() if name.split(".")[0] not in ("head", "fc")}
    if not weights:
        raise UserError(f"{path} holds no backbone, only a head")
    return weights


def _shape_of(config: RunConfig) -> dict[str, Any]:
    """`build_backbone`'s arguments for ``config``, without stochastic depth."""
    shape = {"arch": config.arch, "patch_size": config.patch_size, "img_size": config.global_crop_size}
    return shape | {"embed_dim": config.embed_dim, "depth": config.depth, "num_heads": config.num_heads}


def _infer_shape(
    path: Path, weights: StateDict, *, arch: str | None, patch_size: int | None, config: RunConfig | None
) -> dict[str, Any]:
    """`build_backbone`'s arguments for ``weights``: from what the caller knows, completed by the tensors' shapes."""
    if "layer4.0.conv1.weight" in weights and "conv1.weight" in weights:
        found = "resnet50" if "layer4.2.conv3.weight" in weights else "resnet_nano"
        if (arch or (config.arch if config else found)) != found:
            raise UserError(f"{path} holds a {found}, not a {arch or (config and config.arch)}: leave out --arch")
        return {"arch": found, "patch_size": 1, "img_size": 224}
    missing = [name for name in ("cls_token", "pos_embed", "patch_embed.proj.weight") if name not in weights]
    if missing:
        raise UserError(f"{path} holds neither a ViT (no {missing[0]}) nor a torchvision ResNet")
    from dino.models.vit import VIT_SHAPES

    width, _, _, patch = weights["patch_embed.proj.weight"].shape
    blocks = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
    depth = max(blocks, default=-1) + 1
    side = math.isqrt(weights["pos_embed"].shape[1] - 1)
    found = f"a ViT of width {width} and depth {depth} with {patch}-pixel patches"
    if config is not None:
        arch, patch_size = arch or config.arch, patch_size or config.patch_size
    if arch is None:
        names = [name for name, shape in VIT_SHAPES.items() if (shape.embed_dim, shape.depth) == (width, depth)]
        if not names:
            raise UserError(f"{path} holds {found}, whose number of heads the file does not say: give --arch")
        arch = names[0]
    if arch not in VIT_SHAPES:
        raise UserError(f"{path} holds {found}, not a {arch}{suggest(arch, VIT_SHAPES)}")
    shape = VIT_SHAPES[arch]
    sizes = config if config is not None and config.arch == arch else None
    wanted_width = (sizes and sizes.embed_dim) or shape.embed_dim
    wanted_depth = (sizes and sizes.depth) or shape.depth
    wanted_patch = patch_size or patch
    if (width, depth, patch) != (wanted_width, wanted_depth, wanted_patch):
        raise UserError(
            f"{path} holds {found}, not {arch} with {wanted_patch}-pixel patches (width {wanted_width}, depth "
            f"{wanted_depth})"
        )
    return {
        "arch": arch,
        "patch_size": patch,
        "img_size": side * patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": (sizes and sizes.num_heads) or shape.num_heads,
    }


def _load(path: Path, backbone: Backbone, weights: StateDict, shape: dict[str, Any]) -> None:
    """Copy ``weights`` into ``backbone``: every name and every shape must fit."""
    expected = backbone.state_dict()
    # Files from before torch 0.4.1 lack BN's step counters, which evaluation does not use.
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        lists = {"is missing": missing, "is unknown": unknown}
        parts = [f"{names[0]} {what} ({len(names)} such)" for what, names in lists.items() if names]
        raise UserError(f"{path} does not fit {shape['arch']}: {' and '.join(parts)}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise UserError(
                f"{path} does not fit {shape['arch']}: {name} has shape {tuple(value.shape)} instead of "
                f"{tuple(expected[name].shape)}"
            )
    backbone.load_state_dict(weights, strict=False)


def _describe(arch: str, backbone: Backbone) -> dict[str, Any]:
    names = ("embed_dim", "patch_size", "img_size", "depth", "num_heads")
    return {"arch": arch, **{name: getattr(backbone, name) for name in names}}
