"""Frames, features and masks: the authors' code gave the golden values; live beside it where it is there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dino.evaluation.davis.dataset import Video, find_videos
from dino.evaluation.davis.masks import MaskCode, SequenceDefect, resize_nearest, write_mask
from dino.evaluation.davis.propagation import PropagationSettings, Propagator
from dino.evaluation.davis.scorer import score_frame
from dino.evaluation.davis.segment import (
    InputSize,
    SegmentSettings,
    harden,
    lost_on_grid,
    one_hot,
    patch_features,
    read_frame,
    segment,
)
from dino.models import build_backbone
from dino.models.vit import VisionTransformer

CPU = torch.device("cpu")
CASES = ["wide", "high"]


def network(maker: ModuleType, arch: str, patch_size: int) -> VisionTransformer:
    backbone = build_backbone(arch=arch, patch_size=patch_size, img_size=224).eval()
    maker.backbone_maker().fill(backbone, seed=0)
    assert isinstance(backbone, VisionTransformer)
    return backbone


def our_result(maker: ModuleType, case: dict[str, Any]) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    """Soft labels (C, h, w) and masks of a case's video, from the frames as they are."""
    images, masks = maker.video(case["size"], case["frames"], case["objects"])
    settings = SegmentSettings(device=CPU, image_size=96, propagation=PropagationSettings(radius=case["radius"]))
    size = InputSize.of(case["size"], settings, case["patch_size"])
    assert (size.height, size.width) == case["size"]  # nothing is resized: the golden values need no OpenCV
    frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    first = one_hot(resize_nearest(masks[0], *size.grid), range(1, case["objects"] + 1))
    with torch.inference_mode():
        features = patch_features(network(maker, case["arch"], case["patch_size"]), frames, size.grid, settings)
        propagator = Propagator(features[0], first, settings.propagation)
        soft = [propagator.step(each) for each in features[1:]]
        hard = [harden(each, case["patch_size"]).numpy() for each in soft]
    return [each.permute(2, 0, 1) for each in soft], hard


@pytest.mark.parametrize("name", CASES)
def test_soft_labels_and_masks_are_the_authors(maker: ModuleType, golden: dict[str, Any], name: str) -> None:
    case, expected = maker.CASES[name], golden["cases"][name]
    soft, hard = our_result(maker, case)
    assert len(soft) == len(expected["soft"]) == case["frames"] - 1
    for ours, theirs in zip(soft, expected["soft"], strict=True):
        summary = maker.backbone_maker().summary(ours)
        for kind, numbers in theirs.items():
            assert summary[kind] == pytest.approx(numbers, abs=1e-4)
    for mask, pixels in zip(hard, expected["pixels"], strict=True):
        assert np.bincount(mask.ravel(), minlength=case["objects"] + 1).tolist() == pytest.approx(pixels, abs=5)


@pytest.mark.parametrize("name", CASES)
def test_every_soft_label_is_the_authors_beside_their_code(
    maker: ModuleType, authors_code: Path, tmp_path: Path, name: str
) -> None:
    theirs, their_masks = maker.authors_result(authors_code, maker.CASES[name], tmp_path)
    ours, our_masks = our_result(maker, maker.CASES[name])
    for soft, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(soft, expected, atol=1e-4, rtol=0)
    for mask, expected in zip(our_masks, their_masks, strict=True):
        assert (mask != expected).mean() < 1e-3


def test_whole_pipeline_scores_as_the_authors_beside_their_code(
    maker: ModuleType, authors_code: Path, davis_folder: Path, tmp_path: Path
) -> None:
    """JPEG files, a frame size that is resized, and two objects."""
    (video,) = find_videos(str(davis_folder), sequences=["alpha"]).videos
    frames, annotations = (davis_folder / kind / "480p" / "alpha" for kind in ("JPEGImages", "Annotations"))
    theirs = maker.authors_network(authors_code, "vit_tiny", 16)
    maker.propagate(authors_code, theirs, frames, annotations, tmp_path / "theirs", short_side=128)
    settings = SegmentSettings(device=CPU, image_size=128, multiple=64)
    ours = run(network(maker, "vit_tiny", 16), video, settings)
    for stem in video.frames:
        found = np.asarray(maker.Image.open(tmp_path / "theirs" / "alpha" / f"{stem}.png"))
        _, code = video.first_mask()
        truth = code.annotation(np.asarray(maker.Image.open(annotations / f"{stem}.png")))
        for scores in zip(score_frame(truth, found, (1, 2)), score_frame(truth, ours[stem], (1, 2)), strict=True):
            np.testing.assert_allclose(*scores, atol=0.005)


def run(backbone: VisionTransformer, video: Video, settings: SegmentSettings) -> dict[str, np.ndarray]:
    first, code = video.first_mask()
    return dict(segment(backbone, video, first, code, settings))


def test_masks_of_a_folder_start_with_the_truth_and_have_its_size(maker: ModuleType, davis_folder: Path) -> None:
    backbone = network(maker, "vit_tiny", 16)
    settings = SegmentSettings(device=CPU, image_size=64)
    for video in find_videos(str(davis_folder)).videos:
        first, code = video.first_mask()
        masks = run(backbone, video, settings)
        assert list(masks) == list(video.frames)
        np.testing.assert_array_equal(masks["00000"], first)
        assert all(mask.shape == first.shape and mask.dtype == np.uint8 for mask in masks.values())
        assert set(np.unique(masks["00004"])) <= {0, *code.objects}


def test_frames_in_one_batch_or_one_by_one_give_the_same(maker: ModuleType, davis_folder: Path) -> None:
    backbone = network(maker, "vit_tiny", 16)
    (video,) = find_videos(str(davis_folder), sequences=["alpha"]).videos
    one, many = (run(backbone, video, SegmentSettings(device=CPU, image_size=64, batch_size=n)) for n in (1, 4))
    for stem, mask in one.items():
        assert (mask != many[stem]).mean() < 1e-3


def test_binary_and_numbered_masks_propagate_alike(maker: ModuleType, davis_folder: Path) -> None:
    backbone = network(maker, "vit_tiny", 16)
    (video,) = find_videos(str(davis_folder), sequences=["beta"]).videos
    settings = SegmentSettings(device=CPU, image_size=64)
    numbered = run(backbone, video, settings)
    for path in video.annotations.values():
        mask = np.asarray(maker.Image.open(path))
        maker.Image.fromarray(mask * np.uint8(255)).save(path)
    binary = run(backbone, video, settings)
    for stem, mask in numbered.items():
        np.testing.assert_array_equal(mask, binary[stem])


def test_numbers_with_gaps_are_kept(maker: ModuleType, davis_folder: Path) -> None:
    backbone = network(maker, "vit_tiny", 16)
    (video,) = find_videos(str(davis_folder), sequences=["alpha"]).videos
    settings = SegmentSettings(device=CPU, image_size=64)
    before = run(backbone, video, settings)
    new_numbers = np.array([0, 3, 7], np.uint8)
    for path in video.annotations.values():
        write_mask(path, new_numbers[np.asarray(maker.Image.open(path))])
    after = run(backbone, video, settings)
    for stem, mask in before.items():
        np.testing.assert_array_equal(new_numbers[mask], after[stem])


@pytest.mark.parametrize(
    ("frame", "image_size", "multiple", "patch_size", "expected"),
    [
        ((480, 854), 480, None, 16, (480, 832)),  # DAVIS
        ((480, 854), 480, None, 8, (480, 832)),
        ((1080, 1920), 480, None, 16, (480, 832)),
        ((854, 480), 480, None, 16, (832, 480)),
        ((480, 910), 480, None, 16, (480, 896)),
        ((500, 500), 480, None, 16, (480, 448)),  # square counts as wide
        ((96, 128), 96, None, 8, (96, 128)),
        ((48, 64), 48, 64, 4, (48, 64)),
    ],
)
def test_input_size(
    frame: tuple[int, int], image_size: int, multiple: int | None, patch_size: int, expected: tuple[int, int]
) -> None:
    settings = SegmentSettings(device=CPU, image_size=image_size, multiple=multiple)
    size = InputSize.of(frame, settings, patch_size)
    assert (size.height, size.width) == expected
    assert size.grid == (expected[0] // patch_size, expected[1] // patch_size)


def test_frames_without_a_whole_patch_are_a_defect() -> None:
    settings = SegmentSettings(device=CPU, image_size=32, multiple=64)
    with pytest.raises(SequenceDefect, match="48x32 pixels leave no patch of 16"):
        InputSize.of((32, 48), settings, 16)


def test_frames_are_read_as_the_authors_read_them(davis_folder: Path) -> None:
    path = davis_folder / "JPEGImages" / "480p" / "alpha" / "00001.jpg"
    settings = SegmentSettings(device=CPU, image_size=128, multiple=64)
    found = read_frame(path, (64, 96), InputSize.of((64, 96), settings, 16))
    image = cv2.imread(str(path))
    assert image is not None
    expected = cv2.resize(image, (192, 128))[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_frame_of_another_size_is_a_defect(davis_folder: Path) -> None:
    path = davis_folder / "JPEGImages" / "480p" / "beta" / "00001.jpg"
    with pytest.raises(SequenceDefect, match=r"64x96 pixels in a sequence whose first mask has 96x64"):
        read_frame(path, (64, 96), InputSize(64, 96, (4, 6)))


def test_channels_are_stretched_before_they_are_compared() -> None:
    # The object's labels never exceed the background's, but relative to its own maximum they do.
    soft = torch.zeros(2, 3, 2)
    soft[..., 0] = torch.tensor([[0.9, 0.9, 0.6], [0.9, 0.9, 0.6]])
    soft[..., 1] = 1 - soft[..., 0]
    hard = harden(soft, 4)
    assert hard.shape == (8, 12)
    assert hard[:, :4].eq(0).all()
    assert hard[:, -1].eq(1).all()


def test_constant_channels_are_left_as_they_are() -> None:
    everywhere = torch.tensor([0.0, 1.0, 0.0]).expand(3, 3, 3)
    assert harden(everywhere, 2).eq(1).all()
    assert harden(torch.zeros(3, 3, 2), 2).eq(0).all()


def test_objects_that_the_grid_does_not_show_are_named() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:40, :40] = 1
    mask[60, 60] = 2
    assert lost_on_grid(mask, MaskCode.of(mask), (4, 4)) == [2]


def test_features_that_are_not_finite_are_an_error(maker: ModuleType) -> None:
    from dino.errors import UserError

    backbone = network(maker, "vit_tiny", 16)
    with torch.no_grad():
        backbone.norm.weight.fill_(torch.nan)
    frames = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.inference_mode(), pytest.raises(UserError, match="weights have diverged"):
        patch_features(backbone, frames, (2, 2), SegmentSettings(device=CPU))
