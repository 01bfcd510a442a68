"""What the evaluation commands share: their common arguments, the device and the threads. No torch at import."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import sys
from typing import TYPE_CHECKING

from dino.errors import UserError

if TYPE_CHECKING:
    import torch


def add_runtime_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--threads``, ``--seed``, ``--tracking`` and ``--quiet``."""
    group = parser.add_argument_group("running")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, or auto: CUDA where there is one (default)")
    group.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)")
    group.add_argument("--seed", type=int, metavar="N", help="of random weights (default: the config's, or 0)")
    group.add_argument("--tracking", choices=["off"], default="off", help="evaluations write files; `dino sync` tracks")
    group.add_argument("--quiet", action="store_true", help="no progress, warnings only")


def add_checkpoint_arguments(group: argparse._ArgumentGroup, *, required: bool = False) -> None:
    """Which network: ``--checkpoint`` and what completes it; `dino.evaluation.checkpoints` reads them."""
    group.add_argument(
        "--checkpoint", required=required, metavar="C", help="a checkpoint of ours or the authors', or 'random'"
    )
    group.add_argument("--checkpoint-key", default="teacher", choices=["teacher", "student"], help="default teacher")
    group.add_argument("--config", metavar="C.yaml", help="a run's config.yaml, where the checkpoint does not say")
    group.add_argument("--arch", metavar="A", help="architecture, likewise: vit_small, vit_base, resnet50, ...")
    group.add_argument("--patch-size", type=positive, metavar="P", help="patch side in pixels, likewise")


def add_precision_argument(group: argparse._ArgumentGroup) -> None:
    """``--precision`` of forward passes."""
    group.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="default fp32")


def add_forward_arguments(group: argparse._ArgumentGroup, *, batch_size: int) -> None:
    """How images go through the network: ``--precision``, ``--batch-size`` and ``--workers``."""
    add_precision_argument(group)
    group.add_argument(
        "--batch-size", type=positive, default=batch_size, metavar="N", help=f"of a forward (default {batch_size})"
    )
    group.add_argument("--workers", type=int, metavar="N", help="processes that read images (default: by cores)")


def add_size_arguments(group: argparse._ArgumentGroup) -> None:
    """How images are prepared for a frozen backbone: ``--image-size`` and ``--resize``."""
    group.add_argument("--image-size", type=positive, metavar="PX", help="centre crop (default: the checkpoint's; 224)")
    group.add_argument(
        "--resize",
        type=positive,
        metavar="PX",
        help="short side before the crop (default 8/7 of it; below 160 px the same)",
    )


def add_features_arguments(parser: argparse.ArgumentParser, *, title: str, required: bool = False) -> None:
    """What is made into features and how: the checkpoint, the data and the preprocessing."""
    group = parser.add_argument_group(title)
    add_checkpoint_arguments(group, required=required)
    group.add_argument("--data", required=required, metavar="D", help="a registered data set's name or a folder")
    add_size_arguments(group)
    add_forward_arguments(group, batch_size=128)


def add_pair_arguments(parser: argparse.ArgumentParser) -> None:
    """Features of training and test images: two files, or made from a checkpoint; and a subset of the former.

    `dino.evaluation.features.pairs.read_pair` reads them.
    """
    files = parser.add_argument_group("from feature files")
    files.add_argument("--train-features", metavar="A.npz", help="features of the training images")
    files.add_argument("--test-features", metavar="B.npz", help="features of the test images")
    add_features_arguments(parser, title="from a checkpoint")
    parser.add_argument("--train-split", default="train", metavar="S", help="the labelled split (default train)")
    parser.add_argument("--test-split", default="test", metavar="S", help="the split that is classified (default test)")
    parser.add_argument("--features-dir", metavar="DIR", help="keep the features there, and use them where they fit")
    few = parser.add_argument_group("few labels")
    few.add_argument("--subset", type=float, metavar="SHARE", help="use this share of every class, such as 0.01 or 0.1")
    few.add_argument("--subset-list", metavar="FILE", help="use the training images that it names, one a line")
    few.add_argument("--subset-seed", type=int, default=0, metavar="N", help="chooses the share (default 0)")


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {value})")
    return value


def set_up_torch(device: str, threads: int | None) -> torch.device:
    """Apply ``--threads`` and turn ``--device`` into a device that is there.

    Raises:
        UserError: The name is no device, or there is no such device here.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: no such kind of device; use cpu, cuda or cuda:N") from None
    if chosen.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: only cpu and cuda are supported")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {device}: there are {torch.cuda.device_count()} CUDA devices here; use --device cpu")
    return chosen


def reuse_freed_memory() -> None:
    """Keep what tensors on the CPU free for the next ones; nothing where the C library is not glibc.

    By default the activations of each block go back to the system and are asked for anew, page by page: 8 % of the
    time of a ViT-T/16 forward at 480x832 pixels.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3  # names of mallopt's parameters
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 32 << 20)  # the largest that is allowed
        mallopt(trim_threshold, 1 << 30)


def device_name(device: torch.device) -> str:
    """``cpu``, or a GPU's name as its maker gives it."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
