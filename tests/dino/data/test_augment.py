"""The batched augmentation against a straightforward per-image one made of torchvision and Pillow transforms."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms
from torchvision.transforms import functional as TF

from dino.config import RunConfig
from dino.data import augment, color
from dino.data.augment import MEAN, STD, MultiCrop, view_groups, view_kinds
from dino.data.resample import ASPECT, BOX_DRAWS, Kernel, crop_resize, crop_resize_one, draw_boxes


def config(**values: object) -> RunConfig:
    return RunConfig(**{"patch_size": 4, "global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 2, **values})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def natural_images(count: int, size: int) -> torch.Tensor:
    """(count, 3, size, size) uint8 with smooth areas, edges and all colours."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, 3, size, size))) / frequency, s=(size, size))
    field /= 4 * field.std(axis=(2, 3), keepdims=True)
    return torch.from_numpy((np.clip(field + 0.5, 0, 1) * 255).astype(np.uint8))


def to_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def denormalised(views: torch.Tensor) -> torch.Tensor:
    return views * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


# --- every operation, given equal parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "box"), [(16, (3, 5, 20, 31)), (32, (0, 0, 40, 40)), (48, (10, 2, 9, 12))])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
def test_crop_and_resize_is_pillows(size: int, box: tuple[int, int, int, int], flip: bool, kernel: Kernel):
    images = natural_images(4, 40)
    ours = crop_resize(images, torch.tensor([box] * 4), size=size, flip=torch.tensor([flip] * 4), kernel=kernel)
    filtering = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}[kernel]
    for image, result in zip(images, ours, strict=True):
        top, left, height, width = box
        expected = to_pillow(image).crop((left, top, left + width, top + height)).resize((size, size), filtering)
        expected = ImageOps.mirror(expected) if flip else expected
        assert (result - from_pillow(expected)).abs().max() <= 1.5 / 255
        one = crop_resize_one(image, list(box), size=size, flip=flip, kernel=kernel)
        assert (one.float() / 255 - from_pillow(expected)).abs().max() <= 2.5 / 255


@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.6, 0.9, 1.4])
def test_blends_are_pillows_brightness_contrast_and_saturation(operation: str, factor: float):
    images = natural_images(4, 24)
    one, zero, rest = torch.full((4,), factor), torch.zeros(4), torch.full((4,), 1 - factor)
    shares = {"brightness": (zero, zero), "contrast": (zero, rest), "saturation": (rest, zero)}[operation]
    ours = color.blend_(images.float() / 255, one, *shares)
    adjust = getattr(TF, f"adjust_{operation}")
    for image, result in zip(images, ours, strict=True):
        assert (result - from_pillow(adjust(to_pillow(image), factor))).abs().max() <= 2 / 255


def test_hue_is_turned_as_torchvision_does():
    images = natural_images(6, 24).float() / 255
    images[0, :, :4] = 0.5  # without colour
    images[1, 0] = images[1, 1]  # two equal channels
    for shift in (-0.5, -0.1, 0.03, 0.1, 0.5):
        ours = color.shift_hue_(images.clone(), torch.full((6,), shift))
        assert (ours - TF.adjust_hue(images, shift)).abs().max() <= 1e-5


def test_hue_is_near_pillows_whose_hue_has_eight_bits():
    image = natural_images(1, 32)
    ours = color.shift_hue_(image.float() / 255, torch.tensor([0.08]))
    expected = from_pillow(TF.adjust_hue(to_pillow(image[0]), 0.08))
    assert (ours[0] - expected).abs().mean() <= 1.5 / 255


@pytest.mark.parametrize("size", [16, 33, 128, 224])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.3, 2.0])
def test_blur_is_pillows(size: int, sigma: float):
    images = natural_images(2, size)
    ours = color.blur(images.float() / 255, torch.full((2,), sigma), color.blur_reach(2.0))
    for image, result in zip(images, ours, strict=True):
        expected = from_pillow(to_pillow(image).filter(ImageFilter.GaussianBlur(sigma)))
        assert (result - expected).abs().max() <= 3.5 / 255  # six roundings to 8 bits
        assert (result - expected).abs().mean() <= 1 / 255


@given(sigma=st.floats(0.05, 6.0), size=st.integers(8, 64))
@settings(max_examples=40, deadline=None)
def test_blur_keeps_the_mean_of_a_flat_image_and_has_the_variance_asked_for(sigma: float, size: int):
    matrix = color.blur_matrices(torch.tensor([sigma]), size)[0].double()
    torch.testing.assert_close(matrix.sum(1), torch.ones(size, dtype=torch.float64), atol=1e-5, rtol=0)
    if 2 * color.blur_reach(sigma) < size // 2:
        offset = torch.arange(size, dtype=torch.float64) - size // 2
        assert math.isclose((matrix[size // 2] * offset**2).sum().item(), sigma**2, rel_tol=1e-3)


def test_solarize_and_greyscale_are_pillows():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    solarized = color.solarize(ramp.float() / 255)[0]
    torch.testing.assert_close(solarized, from_pillow(ImageOps.solarize(to_pillow(ramp[0]))))
    image = natural_images(1, 24)
    expected = torch.from_numpy(np.array(to_pillow(image[0]).convert("L"))).float() / 255
    assert (color.luma(image.float() / 255)[0] - expected).abs().max() <= 1 / 255


def test_jitter_applies_the_drawn_operations_in_the_drawn_order():
    """Rows are sorted and blended together inside; the result must be that of one operation after the other."""
    kinds = [augment.ViewKind(size=24, scale=(1.0, 1.0), blur=0.0, solarize=0.0)]
    images = natural_images(64, 24)
    plan = augment.draw_colors(kinds, 64, generator(3))
    crop = MultiCrop(config(global_crop_size=24))
    views = denormalised(crop.from_views([images], [plan])[0])
    orders = set()
    for row, target in enumerate(plan.order.tolist()):
        expected = images[target].float() / 255
        slot = int(plan.hue_slot[row])
        if slot < 4:
            names = []
            for position in range(4):
                if position == slot:
                    expected = TF.adjust_hue(expected, float(plan.hue[row]))
                    names.append("hue")
                if position < 3:
                    factor, gray, mean = plan.blends[position, :, row].tolist()
                    name = "saturation" if gray else "contrast" if mean else "brightness"
                    expected = getattr(TF, f"adjust_{name}")(expected, factor)
                    names.append(name)
            assert sorted(names) == ["brightness", "contrast", "hue", "saturation"]
            orders.add(tuple(names))
        if plan.grayscale[row]:
            expected = TF.rgb_to_grayscale(expected, 3)
        torch.testing.assert_close(views[target], expected, atol=2e-3, rtol=0)  # luma weights 0.299 and 0.2989
    assert len(orders) > 12


# --- distributions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (500, 120), (10, 90)])
@pytest.mark.parametrize("scale", [(0.25, 1.0), (0.05, 0.25)])
def test_crop_boxes_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]):
    count = 3000
    uniform = torch.rand(count, BOX_DRAWS, generator=generator(), dtype=torch.float64)
    sizes = {"heights": torch.full((count,), height), "widths": torch.full((count,), width)}
    ours = draw_boxes(uniform, scale=scale, **sizes).double()
    blank = torch.zeros(3, height, width)
    torch.manual_seed(0)
    theirs = [transforms.RandomResizedCrop.get_params(blank, list(scale), list(ASPECT)) for _ in range(count)]
    expected = torch.tensor(theirs, dtype=torch.float64)
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] >= 1).all()
    for values in (
        lambda box: box[:, 2] * box[:, 3] / (height * width),
        lambda box: torch.log(box[:, 3] / box[:, 2]),
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        a, b = values(ours).sort()[0], values(expected).sort()[0]
        # Two-sample Kolmogorov-Smirnov distance; 0.051 is its 0.1 % quantile for 2 x 3000 draws.
        grid = torch.cat([a, b])
        distance = (torch.searchsorted(a, grid, right=True) - torch.searchsorted(b, grid, right=True)).abs().max()
        assert distance / count < 0.051


def test_shares_of_flipped_jittered_grey_blurred_and_solarised_rows():
    batch = 4000
    kinds = view_kinds(config(num_local_crops=1))
    groups = view_groups(kinds)
    colors = [augment.draw_colors(group, batch, generator(1)) for group in groups]
    crop = augment.draw_crops(groups[0], batch, generator(2))
    margin = 4 * math.sqrt(0.25 / batch)

    def share(flags: torch.Tensor) -> float:
        return flags.float().mean().item()

    assert abs(share(crop.flip) - 0.5) < margin
    for plan, expected in zip(colors, [[(1.0, 0.0), (0.1, 0.2)], [(0.5, 0.0)]], strict=True):
        inverse = plan.order.argsort()
        assert abs(share(plan.grayscale) - 0.2) < margin
        assert abs(share(plan.hue_slot < 4) - 0.8) < margin
        for view, (blur, solarise) in enumerate(expected):
            rows = inverse[view * batch : (view + 1) * batch]
            sigma = plan.sigma[rows]
            assert abs(share(sigma > 0) - blur) < (margin if blur < 1 else 1e-9)
            assert abs(share(plan.solarize[rows]) - solarise) < (margin if solarise else 1e-9)
            positive = sigma[sigma > 0]
            assert positive.min() >= 0.1
            assert positive.max() <= 2.0
            assert abs(positive.mean() - 1.05) < 4 * 1.9 / math.sqrt(12 * len(positive))


def _reference(images: torch.Tensor, view: int, size: int) -> torch.Tensor:
    """paper.md, A.7, view by view and image by image, with Pillow."""
    scale, blur, solarise = [((0.25, 1.0), 1.0, 0.0), ((0.25, 1.0), 0.1, 0.2), ((0.05, 0.25), 0.5, 0.0)][view]
    crop = transforms.RandomResizedCrop(size, scale=scale, interpolation=transforms.InterpolationMode.BICUBIC)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)
    results = []
    for image in images:
        pillow = crop(to_pillow(image))
        if random.random() < 0.5:
            pillow = ImageOps.mirror(pillow)
        if random.random() < 0.8:
            pillow = jitter(pillow)
        if random.random() < 0.2:
            pillow = pillow.convert("L").convert("RGB")
        if random.random() < blur:
            pillow = pillow.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        if random.random() < solarise:
            pillow = ImageOps.solarize(pillow)
        results.append(TF.normalize(from_pillow(pillow), MEAN, STD))
    return torch.stack(results)


def test_views_have_the_statistics_of_the_per_image_reference():
    count = 720
    images = natural_images(60, 48).repeat(count // 60, 1, 1, 1)
    random.seed(0)
    torch.manual_seed(0)
    crop = MultiCrop(config(num_local_crops=1))
    colors = crop.draw_colors(count, generator(5))
    globals_, locals_ = crop.from_images(images, crop.draw_crops(count, generator(4)), colors)
    for view, ours in enumerate([*globals_.chunk(2), locals_]):
        theirs = _reference(images, view, ours.shape[-1])
        for name, statistic in {
            "mean": lambda x: x.mean((2, 3)),
            "std": lambda x: x.std((2, 3)),
            "colour": lambda x: x.std(1).mean((1, 2))[:, None],
            "detail": lambda x: (x[..., 1:] - x[..., :-1]).abs().mean((2, 3)),
            "skew to the right": lambda x: x[..., x.shape[-1] // 2 :].mean((2, 3)) - x.mean((2, 3)),
        }.items():
            a, b = statistic(ours), statistic(theirs)
            spread = torch.maximum(a.std(0), b.std(0))
            # Five standard errors of a difference of means; 8-bit rounding shifts a mean by half a level at most.
            allowed = 5 * spread * math.sqrt(2 / count) + 0.5 / (255 * 0.225)
            assert ((a.mean(0) - b.mean(0)).abs() <= allowed).all(), (view, name)
            assert ((a.std(0) / b.std(0)).log().abs() <= 0.15).all(), (view, name)


# --- layout and randomness ----------------------------------------------------------------------------------------


def test_groups_are_view_major_and_adjacent_equal_sizes_form_one():
    assert [[k.size for k in group] for group in view_groups(view_kinds(config()))] == [[32, 32], [16, 16]]
    assert len(view_groups(view_kinds(config(local_crop_size=32)))) == 1
    assert len(view_groups(view_kinds(config(num_local_crops=0)))) == 1
    # An image whose colour tells which one it is: rows b and B + b must show image b.
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    images += torch.tensor([20, 90, 160, 230], dtype=torch.uint8).view(4, 1, 1, 1)
    crop = MultiCrop(config(color_jitter=0.0))
    colors = crop.draw_colors(4, generator())
    for plan in colors:
        plan.solarize.zero_()
    for group in crop.from_images(images, crop.draw_crops(4, generator()), colors):
        shown = denormalised(group).mean((1, 2, 3)) * 255
        torch.testing.assert_close(shown.view(-1, 4), torch.tensor([20.0, 90, 160, 230]).expand(2, 4), atol=1, rtol=0)


def test_equal_generators_give_equal_bits_and_the_global_state_is_left_alone():
    images = natural_images(6, 32)
    crop = MultiCrop(config())
    before = torch.random.get_rng_state()

    def views(seed: int) -> list[torch.Tensor]:
        stream = generator(seed)
        return crop.from_images(images, crop.draw_crops(6, stream), crop.draw_colors(6, stream))

    assert all(torch.equal(a, b) for a, b in zip(views(1), views(1), strict=True))
    assert not torch.equal(views(1)[0], views(2)[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch):
    images = natural_images(9, 32)
    crop = MultiCrop(config())
    crops, colors = crop.draw_crops(9, generator(1)), crop.draw_colors(9, generator(2))
    whole = crop.from_images(images, crops, colors)
    monkeypatch.setattr(augment, "CHUNK_BYTES", 1)
    for a, b in zip(whole, crop.from_images(images, crops, colors), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_strength_scales_the_jitter_and_zero_switches_it_off():
    kinds = view_kinds(config())[:2]
    for strength in (0.0, 0.5, 1.0):
        plan = augment.draw_colors(kinds, 2000, generator(), strength=strength)
        assert plan.hue.abs().max() <= 0.1 * strength + 1e-6
        factors = plan.blends[:, 0]
        assert (factors - 1).abs().max() <= 0.4 * strength + 1e-6
        assert (factors - 1).abs().max() >= 0.38 * strength


def test_large_images_are_cut_one_by_one_to_the_same_views(monkeypatch: pytest.MonkeyPatch):
    images = natural_images(5, 48)
    crop = MultiCrop(config(color_jitter=0.0))
    crops, colors = crop.draw_crops(5, generator(1)), crop.draw_colors(5, generator(2))
    for plan in colors:
        plan.solarize.zero_()  # its step at half brightness would turn a rounding into a jump
    matrices = crop.from_images(images, crops, colors)
    monkeypatch.setattr(augment, "MATRIX_PIXELS", 0)
    for a, b in zip(matrices, crop.from_images(images, crops, colors), strict=True):
        assert (denormalised(a) - denormalised(b)).abs().max() <= 2.5 / 255


def test_nothing_is_read_back_from_the_device():
    """The meta device holds no values: whatever waited for one, or mixed it with the CPU's, would raise."""
    crop = MultiCrop(config(num_local_crops=3))
    images = torch.empty(6, 3, 32, 32, dtype=torch.uint8, device="meta")
    crops, colors = crop.draw_crops(6, generator()), crop.draw_colors(6, generator())
    groups = crop.from_images(images, crops, colors)
    assert [(group.device.type, tuple(group.shape)) for group in groups] == [
        ("meta", (12, 3, 32, 32)),
        ("meta", (18, 3, 16, 16)),
    ]
    views = [torch.empty(12, 3, 32, 32, dtype=torch.uint8, device="meta")]
    assert crop.from_views(views, colors[:1])[0].shape == (12, 3, 32, 32)
