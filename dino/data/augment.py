"""Multi-crop augmentation (paper.md, A.7), batched, on the device that trains.

All random numbers of a micro-batch are drawn first, on the CPU, from one explicit generator (`draw_crops`,
`draw_colors`): a few dozen a view. The pixels then go through batched operations on whatever device they are on, and
each operation only sees the images that need it. Rows are view-major: all images of view 1, then of view 2, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dino.config import RunConfig
from dino.data import color
from dino.data.resample import BOX_DRAWS, crop_resize, crop_resize_each, draw_boxes

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, used for every data set (paper.md, A.7, C.1)."""

FLIP, JITTER, GRAYSCALE = 0.5, 0.8, 0.2
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
"""paper.md, A.7 (BYOL's recipe)."""

CHUNK_BYTES = 2 << 20
"""Pixels that pass through all operations together on a CPU. They stay in its cache, and the allocator reuses buffers
of this size where it maps larger ones anew each time: 0.15 ms an image of 32 pixels at 2 MiB, 0.46 ms at 4 MiB."""


DEVICE_CHUNK_BYTES = 256 << 20
"""The same on an accelerator, where only the memory of intermediate results limits it."""

MATRIX_PIXELS = 64 * 64
"""Image size up to which a CPU resamples by matrix products; above, products by zero outweigh the calls they save."""


@dataclass(frozen=True)
class ViewKind:
    """The settings of one view of an image."""

    size: int
    scale: tuple[float, float]
    blur: float
    solarize: float


def view_kinds(config: RunConfig) -> list[ViewKind]:
    """The views of an image in order: two globals, then the locals (paper.md, A.7)."""
    size, scale = config.global_crop_size, config.global_crop_scale
    local = ViewKind(config.local_crop_size, config.local_crop_scale, blur=0.5, solarize=0.0)
    return [
        ViewKind(size, scale, blur=1.0, solarize=0.0),
        ViewKind(size, scale, blur=0.1, solarize=0.2),
        *[local] * config.num_local_crops,
    ]


def view_groups(kinds: list[ViewKind]) -> list[list[ViewKind]]:
    """Adjacent views of equal size, which pass the backbone together (paper.md, A.3)."""
    groups: list[list[ViewKind]] = []
    for kind in kinds:
        if groups and groups[-1][0].size == kind.size:
            groups[-1].append(kind)
        else:
            groups.append([kind])
    return groups


@dataclass(frozen=True)
class CropPlan:
    """Geometry of one group's rows, as uniform numbers: boxes depend on the images' sizes."""

    size: int
    scales: list[tuple[float, float]]
    uniform: Tensor
    """(views, B, BOX_DRAWS) float64."""
    flip: Tensor
    """(views * B,) bool."""

    def boxes(self, heights: Tensor, widths: Tensor) -> Tensor:
        """(views * B, 4) boxes for B images of these sizes."""
        drawn = [
            draw_boxes(uniform, heights=heights, widths=widths, scale=scale)
            for uniform, scale in zip(self.uniform, self.scales, strict=True)
        ]
        return torch.cat(drawn)


@dataclass(frozen=True)
class ColorPlan:
    """What happens to the colours of one group's rows. All tensors are on the CPU; rows are in *processing order*.

    That order sorts the rows by when their hue is turned, which leaves whole-batch operations only (`_recolor`).
    """

    order: Tensor
    """(rows,) int64: the row of the output that each processed row is."""
    hue_slot: Tensor
    """(rows,) int64: 0-3, number of blends before the hue; 4 for rows without jitter, which come last."""
    hue: Tensor
    """(rows,) float32: shift, in circles."""
    blends: Tensor
    """(3, 3, rows) float32: brightness, contrast and saturation in each row's order; factor, gray and mean share."""
    grayscale: Tensor
    """(rows,) bool."""
    sigma: Tensor
    """(rows,) float32: standard deviation of the blur in pixels; 0 for none."""
    solarize: Tensor
    """(rows,) bool."""


def draw_crops(kinds: list[ViewKind], batch: int, generator: torch.Generator) -> CropPlan:
    """Draw the geometry of one group of views for ``batch`` images."""
    uniform = torch.rand(len(kinds), batch, BOX_DRAWS, generator=generator, dtype=torch.float64)
    flip = torch.rand(len(kinds) * batch, generator=generator) < FLIP
    return CropPlan(size=kinds[0].size, scales=[kind.scale for kind in kinds], uniform=uniform, flip=flip)


def draw_colors(
    kinds: list[ViewKind],
    batch: int,
    generator: torch.Generator,
    *,
    strength: float = 1.0,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
) -> ColorPlan:
    """Draw the photometric part of one group of views for ``batch`` images.

    Args:
        kinds: The group's views.
        batch: Images.
        generator: The only source of randomness; always on the CPU.
        strength: Of the colour jitter, relative to the paper's; 0 leaves the colours alone.
        blur_sigma: Range of the blur's standard deviation in pixels.
    """
    rows = len(kinds) * batch
    uniform = torch.rand(9, rows, generator=generator)
    position = torch.rand(rows, 4, generator=generator).argsort(dim=1)
    # position[:, j] is the operation that comes j-th: 0 brightness, 1 contrast, 2 saturation, 3 hue.
    jitter = uniform[0] < JITTER
    hue_slot = torch.where(jitter, (position == 3).to(torch.uint8).argmax(dim=1), 4)
    order = hue_slot.argsort(stable=True)
    spread = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION])[:, None] * strength
    # torchvision draws from [max(0, 1 - s), 1 + s].
    low = (1 - spread).clamp(min=0)
    factor = low + (1 + spread - low) * uniform[1:4]
    zero = torch.zeros(rows)
    shares = torch.stack(
        [
            torch.stack([factor[0], zero, zero]),
            torch.stack([factor[1], zero, 1 - factor[1]]),
            torch.stack([factor[2], 1 - factor[2], zero]),
        ]
    )
    without_hue = position[position != 3].view(rows, 3)
    blends = shares[without_hue.t(), :, torch.arange(rows)].permute(0, 2, 1)
    probability = torch.tensor([(kind.blur, kind.solarize) for kind in kinds]).repeat_interleave(batch, dim=0)
    sigma = blur_sigma[0] + (blur_sigma[1] - blur_sigma[0]) * uniform[6]
    turn = min(HUE * strength, 0.5)
    return ColorPlan(
        order=order,
        hue_slot=hue_slot[order],
        hue=(turn * (2 * uniform[4] - 1))[order],
        blends=blends[:, :, order].contiguous(),
        grayscale=(uniform[5] < GRAYSCALE)[order],
        sigma=torch.where(uniform[7] < probability[:, 0], sigma, 0.0)[order],
        solarize=(uniform[8] < probability[:, 1])[order],
    )


class MultiCrop:
    """Turns images into the normalised view groups of a run's configuration.

    Example:
        >>> import torch
        >>> from dino.config import RunConfig
        >>> from dino.data.augment import MultiCrop
        >>> multi_crop = MultiCrop(RunConfig(global_crop_size=64, local_crop_size=32, num_local_crops=3))
        >>> images = torch.randint(0, 256, (8, 3, 96, 96), dtype=torch.uint8)
        >>> generator = torch.Generator().manual_seed(0)
        >>> crops, colors = multi_crop.draw_crops(8, generator), multi_crop.draw_colors(8, generator)
        >>> [group.shape for group in multi_crop.from_images(images, crops, colors)]  # 2 x 8 globals, 3 x 8 locals
        [torch.Size([16, 3, 64, 64]), torch.Size([24, 3, 32, 32])]
    """

    def __init__(self, config: RunConfig) -> None:
        self.groups = view_groups(view_kinds(config))
        self.strength = config.color_jitter
        self.blur_sigma = config.blur_sigma
        self._reach = color.blur_reach(config.blur_sigma[1])

    def draw_crops(self, batch: int, generator: torch.Generator) -> list[CropPlan]:
        """The geometry of every group for ``batch`` images."""
        return [draw_crops(kinds, batch, generator) for kinds in self.groups]

    def draw_colors(self, batch: int, generator: torch.Generator) -> list[ColorPlan]:
        """The photometric part of every group for ``batch`` images."""
        return [
            draw_colors(kinds, batch, generator, strength=self.strength, blur_sigma=self.blur_sigma)
            for kinds in self.groups
        ]

    def from_images(self, images: Tensor, crops: list[CropPlan], colors: list[ColorPlan]) -> list[Tensor]:
        """View groups of images of one size.

        Args:
            images: (B, 3, H, W) uint8, on the device that is to do the work.
            crops: From `draw_crops` with B.
            colors: From `draw_colors` with B.

        Returns:
            For each group (views * B, 3, size, size) float32, normalised, view-major.
        """
        batch, _, height, width = images.shape
        sizes = torch.full((batch,), height), torch.full((batch,), width)
        if images.device.type == "cpu" and height * width > MATRIX_PIXELS:
            views = [
                crop_resize_each(list(images), crop.boxes(*sizes), size=crop.size, flip=crop.flip) for crop in crops
            ]
            return self.from_views(views, colors)
        results = []
        for crop, plan in zip(crops, colors, strict=True):
            boxes = crop.boxes(*sizes)[plan.order].to(images.device, non_blocking=True)
            flip = crop.flip[plan.order].to(images.device, non_blocking=True)
            source = (plan.order % batch).to(images.device, non_blocking=True)

            def cut(rows: slice, boxes=boxes, flip=flip, source=source, size=crop.size) -> Tensor:  # type: ignore[no-untyped-def]
                return crop_resize(images[source[rows]], boxes[rows], size=size, flip=flip[rows])

            pixels = max(height * width, crop.size**2)
            results.append(self._recolor(cut, plan, size=crop.size, pixels=pixels, device=images.device))
        return results

    def from_views(self, views: list[Tensor], colors: list[ColorPlan]) -> list[Tensor]:
        """View groups of views that are already cut: for each group (views * B, 3, size, size) uint8, view-major."""
        results = []
        for pixels, plan in zip(views, colors, strict=True):
            order = plan.order.to(pixels.device, non_blocking=True)

            def cut(rows: slice, pixels=pixels, order=order) -> Tensor:  # type: ignore[no-untyped-def]
                return pixels[order[rows]].float().mul_(1 / 255)

            size = pixels.shape[-1]
            results.append(self._recolor(cut, plan, size=size, pixels=size**2, device=pixels.device))
        return results

    def _recolor(
        self, cut: Callable[[slice], Tensor], plan: ColorPlan, *, size: int, pixels: int, device: torch.device
    ) -> Tensor:
        rows = len(plan.order)
        result = torch.empty(rows, 3, size, size, device=device)
        step = max(1, (CHUNK_BYTES if device.type == "cpu" else DEVICE_CHUNK_BYTES) // (12 * pixels))
        std = torch.tensor(STD)
        scale = (1 / std).view(3, 1, 1).to(device, non_blocking=True)
        shift = (-torch.tensor(MEAN) / std).view(3, 1, 1).to(device, non_blocking=True)
        order = plan.order.to(device, non_blocking=True)
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            images = self._photometric(cut(part), plan, part)
            result[order[part]] = images.mul_(scale).add_(shift)
        return result

    def _photometric(self, images: Tensor, plan: ColorPlan, part: slice) -> Tensor:
        """The operations on one chunk, in place; ``part`` are its rows of ``plan``."""
        device = images.device
        # Everything about which rows do what is known on the CPU: no operation waits for the device.
        slots = plan.hue_slot[part]
        ends = [0, *torch.bincount(slots, minlength=5).cumsum(0).tolist()]
        hue = plan.hue[part].to(device, non_blocking=True)
        blends = plan.blends[:, :, part].to(device, non_blocking=True)
        jittered = ends[4]
        if self.strength > 0 and jittered:
            for slot in range(4):
                turned = slice(ends[slot], ends[slot + 1])
                if turned.stop > turned.start:
                    color.shift_hue_(images[turned], hue[turned])
                if slot < 3:
                    color.blend_(images[:jittered], *blends[slot, :, :jittered])
        gray = plan.grayscale[part].nonzero()[:, 0].to(device, non_blocking=True)
        if len(gray):
            images[gray] = color.luma(images[gray])[:, None].expand(-1, 3, -1, -1)
        sigma = plan.sigma[part]
        blurred = sigma.nonzero()[:, 0]
        if len(blurred):
            radii, where = sigma[blurred].to(device, non_blocking=True), blurred.to(device, non_blocking=True)
            if len(blurred) == len(images):
                images = color.blur(images, radii, self._reach)
            else:
                images[where] = color.blur(images[where], radii, self._reach)
        inverted = plan.solarize[part].nonzero()[:, 0].to(device, non_blocking=True)
        if len(inverted):
            images[inverted] = color.solarize(images[inverted])
        return images
