"""From an image, a folder or a video to pictures and their index (paper.md, C.9)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dino.data.datasets import resolve_dataset
from dino.data.decode import CorruptImage, decode
from dino.data.folder import EXTENSIONS
from dino.errors import UserError
from dino.evaluation.attention.choices import AttentionSettings, patch_of
from dino.evaluation.attention.drawing import Tile, colour_table, montage
from dino.evaluation.attention.figures import draw_frame, draw_image, save_png
from dino.evaluation.attention.video import (
    VIDEO_EXTENSIONS,
    FrameSource,
    VideoWriter,
    check_output,
    image_files,
)
from dino.evaluation.attention_maps import CLS, attention_maps
from dino.evaluation.pictures import Picture, UnusablePicture, prepare
from dino.evaluation.runtime import device_name
from dino.files import write_json
from dino.log import logger, track
from dino.metrics import created_now, package_versions
from dino.protocols import CODE_VERSION

if TYPE_CHECKING:
    from dino.evaluation.checkpoints import Identity
    from dino.models.vit import VisionTransformer

PREVIEWS = 6
"""Frames of a video that its preview shows."""


def is_video(path: Path) -> bool:
    """Whether the name is a video's."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def some_images(data: str, split: str, count: int) -> tuple[Path, list[Path]]:
    """The folder of a data set's split, and ``count`` evenly spaced images of it (all where there are fewer).

    Raises:
        UserError: There is no such data set, or its images are no files of their own.
    """
    images = resolve_dataset(data, split=split)
    if images.pixels is not None:
        raise UserError(f"{data}: its images lie together in a few files; give a folder of single images with --input")
    count = min(count, len(images))
    return images.root, [images.root / images.paths[number * len(images) // count] for number in range(count)]


def draw_gallery(
    backbone: VisionTransformer,
    identity: Identity,
    source: Path,
    folder: Path,
    settings: AttentionSettings,
    *,
    chosen: list[Path] | None = None,
) -> dict[str, Any]:
    """Draw an image or images of a folder: a sub-folder of pictures for each, and ``index.json``, written last.

    In a folder, images that cannot be used are left out and listed in the index.

    Args:
        backbone: In eval mode.
        identity: Where it is from.
        source: The image or folder.
        folder: Where pictures and index go.
        settings: What is drawn.
        chosen: Images below the folder ``source``, anywhere, in this order; None draws those that lie in it.

    Raises:
        UserError: A setting is wrong, ``source`` is no image, or no image of the folder can be used.
    """
    started = time.perf_counter()
    _check(backbone, settings)
    if not source.exists():
        raise UserError(f"{source}: no such image, folder or video")
    if source.is_file() and source.suffix.lower() not in EXTENSIONS:
        raise UserError(
            f"{source}: neither an image ({', '.join(EXTENSIONS)}) nor a video ({', '.join(VIDEO_EXTENSIONS)})"
        )
    files = chosen or (image_files(source) if source.is_dir() else [source])
    backbone = backbone.to(settings.device)
    images: list[dict[str, Any]] = []
    skipped: list[str] = []
    for file, name in track(
        zip(files, _folder_names(files, numbered=chosen is not None), strict=True), what="attention", total=len(files)
    ):
        try:
            entry = draw_image(backbone, decode(file), folder / name, settings)
        except CorruptImage as error:
            skipped.append(str(error))
        except UnusablePicture as error:
            skipped.append(f"{file}: {error}")
        else:
            images.append({"image": file.name, "folder": name, **entry})
            continue
        if source.is_file():
            raise UserError(skipped[0])
        logger.warning("skipped an image (%d so far): %s", len(skipped), skipped[-1])
    if not images:
        raise UserError(f"{source}: none of its {len(files)} images can be used; the first: {skipped[0]}")
    return _write_index(folder, identity, settings, started, images=images, skipped=skipped)


def draw_video(
    backbone: VisionTransformer,
    identity: Identity,
    source: Path,
    folder: Path,
    settings: AttentionSettings,
    *,
    output: Path | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
) -> dict[str, Any]:
    """Draw every frame of a video, or of a folder of frames, into a video; with a preview and ``index.json``.

    Args:
        backbone: In eval mode.
        identity: Where it is from.
        source: The video or folder.
        folder: Where preview and index go.
        settings: What is drawn; at most one reference point.
        output: The video (.mp4, .avi or .gif); default ``<folder>/<name>-attention.mp4``.
        fps: Frames a second of the output; None takes the source's, or 25 for a folder.
        max_frames: Stop after so many.

    Raises:
        UserError: A setting is wrong, or the source has no frame that can be used.
    """
    started = time.perf_counter()
    _check(backbone, settings)
    if len(settings.points) > 1:
        raise UserError("--points: a video shows the attention of one point; give one, or none for CLS")
    output = output or folder / f"{source.stem}-attention.mp4"
    check_output(output)
    frames = FrameSource(source)
    total = min(frames.frames, max_frames or frames.frames)
    backbone = backbone.to(settings.device)
    skipped: list[str] = []
    previews: list[tuple[Tile, Tile]] = []
    wanted = set(np.linspace(0, max(0, total - 1), PREVIEWS).round().astype(int).tolist())
    with VideoWriter(output, fps=fps or frames.fps) as writer:
        for number, picture in _frames(frames, settings, backbone.patch_size, total, max_frames, skipped):
            drawn = _draw_frame(backbone, picture, settings)
            writer.write(drawn)
            if number in wanted:
                caption = f"frame {number}"
                previews.append((Tile(picture.pixels, caption), Tile(drawn, "attention")))
        skipped += frames.skipped
        if not writer.written:
            first = f"; the first problem: {skipped[0]}" if skipped else ""
            raise UserError(f"{source}: no frame of it can be used{first}")
    preview = folder / f"{source.stem}-frames.png"
    save_png(preview, montage([[pair[0] for pair in previews], [pair[1] for pair in previews]]))
    video = {
        "source": source.name,
        "video": str(output),
        "preview": preview.name,
        "frames": writer.written,
        "fps": fps or frames.fps,
    }
    return _write_index(folder, identity, settings, started, video=video, skipped=skipped)


def _draw_frame(backbone: VisionTransformer, picture: Picture, settings: AttentionSettings) -> NDArray[np.uint8]:
    places = [point.place(picture.original) for point in settings.points]
    rows = [1 + patch_of(place, picture, backbone.patch_size) for place in places] or [CLS]
    maps = attention_maps(backbone, [picture.pixels], rows=rows, device=settings.device, precision=settings.precision)
    return draw_frame(picture, maps[0, :, 0], settings, backbone.patch_size)


def _frames(
    frames: FrameSource,
    settings: AttentionSettings,
    patch_size: int,
    total: int,
    max_frames: int | None,
    skipped: list[str],
) -> Iterator[tuple[int, Picture]]:
    """The usable frames with their numbers; all have the size of the first."""
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(track(frames, what="attention, frames", total=total)):
        if number == max_frames:
            return
        try:
            # A video keeps its aspect: squeezed people in motion look wrong.
            picture = prepare(frame, image_size=settings.image_size, keep_aspect=True, patch_size=patch_size)
            for point in settings.points:
                point.place(picture.original)
        except UnusablePicture as error:
            skipped.append(f"frame {number}: {error}")
            continue
        size = size or picture.pixels.shape
        if picture.pixels.shape != size:
            skipped.append(f"frame {number}: {picture.original} pixels, another shape than the first")
            continue
        yield number, picture


def _check(backbone: VisionTransformer, settings: AttentionSettings) -> None:
    """Everything that is wrong with the settings is said before anything is written."""
    colour_table(settings.cmap)
    settings.shown_heads(backbone.num_heads)
    if settings.image_size < backbone.patch_size:
        raise UserError(f"--image-size {settings.image_size} is smaller than a patch of {backbone.patch_size} pixels")
    if settings.threshold is not None and not 0 < settings.threshold <= 1:
        raise UserError(f"--threshold {settings.threshold:g}: a share of the attention's mass, above 0 and at most 1")


def _folder_names(files: list[Path], *, numbered: bool) -> list[str]:
    """A sub-folder's name for each image: its stem, or its whole name where two share a stem; with its number first.

    Numbers tell images of different folders apart.
    """
    if numbered:
        return [f"{number:02d}-{file.stem}" for number, file in enumerate(files, start=1)]
    stems = [file.stem for file in files]
    return [file.stem if stems.count(file.stem) == 1 else file.name for file in files]


def _write_index(
    folder: Path, identity: Identity, settings: AttentionSettings, started: float, **content: Any
) -> dict[str, Any]:
    index = {
        "protocol": "attention",
        "code_version": CODE_VERSION["attention"],
        "settings": {
            "image_size": settings.image_size,
            "keep_aspect": settings.keep_aspect or "video" in content,
            "threshold": settings.threshold,
            "heads": settings.heads if isinstance(settings.heads, str) else list(settings.heads),
            "points": [str(point) for point in settings.points],
            "overlay": settings.overlay,
            "contours": settings.contours,
            "cmap": settings.cmap,
            "precision": settings.precision,
        },
        "run_id": identity.run_id,
        "fingerprint": identity.fingerprint,
        "seed": identity.seed,
        "checkpoint": identity.checkpoint.model_dump(),
        "model": identity.model,
        "device": device_name(settings.device),
        "seconds": round(time.perf_counter() - started, 3),
        "created": created_now().isoformat(),
        "versions": package_versions(),
        **content,
    }
    write_json(folder / "index.json", index)
    return index
