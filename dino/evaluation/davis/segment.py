"""Frames of a video through a backbone, and masks through the video (paper.md, C.7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dino.data.decode import CorruptImage, decode
from dino.errors import UserError
from dino.evaluation.davis.dataset import Video
from dino.evaluation.davis.masks import Mask, MaskCode, SequenceDefect, resize_nearest
from dino.evaluation.davis.propagation import PropagationSettings, Propagator
from dino.models.vit import VisionTransformer
from dino.running.precision import autocast, full_precision_products

MEAN = (0.485, 0.456, 0.406)
STD = (0.228, 0.224, 0.225)
"""The 0.228 is the authors' slip, where ImageNet's is 0.229; their numbers have it (paper.md, C.7)."""
PAPER_IMAGE_SIZE = 480
PAPER_MULTIPLE = 64
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}
"""Tokens of the frames that go through the backbone together. On CPU more is not faster."""


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How frames become features, and features masks."""

    device: torch.device
    image_size: int = PAPER_IMAGE_SIZE
    """Pixels of the short side."""
    multiple: int | None = None
    """The long side is floored to a multiple of it; None: see `long_side_multiple`."""
    precision: str = "fp32"
    batch_size: int | None = None
    """Frames of a forward; None: as many as `TOKENS_PER_BATCH` allows."""
    propagation: PropagationSettings = field(default_factory=PropagationSettings)

    def long_side_multiple(self, patch_size: int) -> int:
        """64 at the paper's 480 pixels; the patch size elsewhere, where 64 could be half a frame [assumption]."""
        return self.multiple or (PAPER_MULTIPLE if self.image_size == PAPER_IMAGE_SIZE else patch_size)

    def described(self, patch_size: int) -> dict[str, Any]:
        """What a metrics file says of them."""
        return {
            "image_size": self.image_size,
            "multiple": self.long_side_multiple(patch_size),
            "precision": self.precision,
            **asdict(self.propagation),
        }

    def frames_at_once(self, grid: tuple[int, int]) -> int:
        """Frames of a forward."""
        return self.batch_size or max(1, TOKENS_PER_BATCH.get(self.device.type, 2048) // (grid[0] * grid[1]))


@dataclass(frozen=True)
class InputSize:
    """What a frame becomes: the network's input in pixels, and its grid in patches."""

    height: int
    width: int
    grid: tuple[int, int]

    @classmethod
    def of(cls, frame: tuple[int, int], settings: SegmentSettings, patch_size: int) -> InputSize:
        """For frames of (height, width) pixels.

        A square frame counts as wide, as the authors' frames do (their masks would count it as high).

        Raises:
            SequenceDefect: Nothing is left of the long side.
        """
        height, width = frame
        short, multiple = settings.image_size, settings.long_side_multiple(patch_size)
        long = short * max(frame) // min(frame) // multiple * multiple
        if min(short, long) < patch_size:
            raise SequenceDefect(
                f"frames of {width}x{height} pixels leave no patch of {patch_size} pixels; choose another --image-size "
                "or --multiple"
            )
        size = (long, short) if height > width else (short, long)
        return cls(*size, grid=(size[0] // patch_size, size[1] // patch_size))


@torch.inference_mode()
def segment(
    backbone: VisionTransformer, video: Video, first_mask: Mask, code: MaskCode, settings: SegmentSettings
) -> Iterator[tuple[str, Mask]]:
    """Yield the stem and the mask (H, W) of each frame of a video; the first is ``first_mask``.

    Raises:
        SequenceDefect: A frame is unreadable, of another size than the first mask, or too small.
        UserError: The features are not finite.
    """
    stems, paths = list(video.frames), list(video.frames.values())
    shape = (first_mask.shape[0], first_mask.shape[1])
    size = InputSize.of(shape, settings, backbone.patch_size)
    numbers = np.asarray((0, *code.objects), np.uint8)
    propagator: Propagator | None = None
    index = 0
    for frames in _read_ahead(paths, shape, size, settings.frames_at_once(size.grid)):
        for features in patch_features(backbone, frames, size.grid, settings):
            if propagator is None:
                labels = one_hot(resize_nearest(first_mask, *size.grid), code.objects).to(settings.device)
                propagator = Propagator(features, labels, settings.propagation)
                yield stems[index], first_mask
            else:
                with full_precision_products():
                    soft = propagator.step(features)
                mask = numbers[harden(soft, backbone.patch_size).cpu().numpy()]
                yield stems[index], resize_nearest(mask, *shape)
            index += 1


def lost_on_grid(first_mask: Mask, code: MaskCode, grid: tuple[int, int]) -> list[int]:
    """Objects too small to be seen in the first mask at the grid's resolution: they are never found again."""
    return sorted(set(code.objects) - set(np.unique(resize_nearest(first_mask, *grid)).tolist()))


def harden(soft: Tensor, patch_size: int) -> Tensor:
    """Soft labels (h, w, C) to the channel of each pixel, (h p, w p) uint8.

    Bilinear, by a scale factor that the framework does not recompute (facebookresearch/dino#46); each channel is
    stretched to [0, 1], unless it is constant; then the largest wins.
    """
    maps = F.interpolate(
        soft.permute(2, 0, 1)[None].contiguous(),
        scale_factor=float(patch_size),
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )[0]
    flat = maps.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    constant = low == high
    low, span = torch.where(constant, 0.0, low), torch.where(constant, 1.0, high - low)
    stretched = maps.sub_(low[:, None, None]).div_(span[:, None, None])
    return stretched.max(0).indices.to(torch.uint8)  # `argmax` over the outer axis takes 20 times as long on CPU


def read_frame(path: Path, original: tuple[int, int], size: InputSize) -> Tensor:
    """A frame, resized bilinearly by OpenCV on 8 bits as the authors do: (3, H, W) uint8, RGB.

    Raises:
        SequenceDefect: It is no whole image, or has another size than ``original``.
    """
    try:
        pixels = decode(path)
    except CorruptImage as error:
        raise SequenceDefect(str(error)) from None
    if pixels.shape[:2] != original:
        raise SequenceDefect(
            f"{path}: a frame of {pixels.shape[1]}x{pixels.shape[0]} pixels in a sequence whose first mask has "
            f"{original[1]}x{original[0]}"
        )
    resized = cv2.resize(pixels, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def patch_features(
    backbone: VisionTransformer, frames: Tensor, grid: tuple[int, int], settings: SegmentSettings
) -> Tensor:
    """Patch tokens of the last block, final-normed and of norm 1: (b, h, w, D) float32."""
    x = frames.to(settings.device, non_blocking=True).float().div_(255)
    x.sub_(x.new_tensor(MEAN).view(3, 1, 1)).div_(x.new_tensor(STD).view(3, 1, 1))
    with full_precision_products(), autocast(settings.precision, settings.device):
        tokens = backbone.tokens(x)[:, 1:].float()
    if not bool(torch.isfinite(tokens).all()):
        way_out = "its weights have diverged" if settings.precision == "fp32" else "try --precision fp32"
        raise UserError(f"the checkpoint's features are not finite numbers; {way_out}")
    return F.normalize(tokens, dim=-1).unflatten(1, grid)


def one_hot(mask: Mask, objects: Sequence[int]) -> Tensor:
    """(h, w, 1 + objects): background first. An object too small for the grid has an empty channel."""
    numbers = torch.from_numpy(mask.astype(np.int64))
    return torch.stack([numbers == number for number in (0, *objects)], dim=-1).float()


def _read_ahead(paths: Sequence[Path], original: tuple[int, int], size: InputSize, batch_size: int) -> Iterator[Tensor]:
    """Batches (b, 3, H, W) uint8 of the frames in order; the next is read while one is used."""
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]

    def read(batch: Sequence[Path]) -> Tensor:
        return torch.stack([read_frame(path, original, size) for path in batch])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, batches[0])
        for following in [*batches[1:], None]:
            current = coming.result()
            if following is not None:
                coming = reader.submit(read, following)
            yield current
