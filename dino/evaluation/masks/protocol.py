"""Jaccard index of attention masks with the objects of VOC12 (paper.md, C.8): a backbone in, a metrics file out.

Per image and head, the mask is the smallest set of patches that holds 60 % of CLS's attention to the patches in the
last block. For each object of the ground truth the best head's intersection over union is taken, averaged over the
image's objects, then over the images. The paper's caption (Fig. 4) says 60 %, its appendix 80 %, with the same numbers:
both are measured.

Assumptions, where the paper is silent: the input's short side is 480 pixels with its aspect kept (the authors' figures
are 480 x 480: ``resize="square"``); the ground truth is resampled to the input (nearest); the objects are the regions
of a class (``jaccard``) or the instances (``jaccard_instances``); void pixels (255) count neither for nor against
(the authors' snippet in facebookresearch/dino#54 has no special case for them: ``void="background"``).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dino.data.decode import CorruptImage, decode
from dino.errors import UserError
from dino.evaluation.attention_maps import attention_maps, keep_mass
from dino.evaluation.document import describe_evaluation
from dino.evaluation.masks.jaccard import ObjectPixels, count_objects, jaccard
from dino.evaluation.masks.voc import Scene, SceneSet, read_labels, resize_labels
from dino.evaluation.pictures import Picture, UnusablePicture, prepare
from dino.log import logger, track
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
)

if TYPE_CHECKING:
    from dino.evaluation.checkpoints import Identity
    from dino.models.vit import VisionTransformer

MASSES = (0.6, 0.8)
"""Shares of the attention that a mask holds: Fig. 4's caption, and appendix D's text."""
SUFFIX = {0.6: "", 0.8: "_80"}
VARIANTS = {"classes": "jaccard", "instances": "jaccard_instances"}


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How the images are shown to the network and what counts."""

    device: torch.device
    image_size: int = 480
    resize: str = "short-side"
    """``short-side``: that side to ``image_size``, the aspect kept; ``square``: both sides."""
    void: str = "ignore"
    precision: str = "fp32"
    batch_size: int = 8


@dataclass(frozen=True)
class _Example:
    """One image that is ready for the network, with its objects by variant."""

    index: int
    picture: Picture
    objects: dict[str, ObjectPixels]


@dataclass
class _Tally:
    """What was measured, by image, and what was left out."""

    overlaps: dict[tuple[str, float], dict[int, NDArray[np.float64]]] = field(default_factory=lambda: defaultdict(dict))
    """(variant, mass) -> image -> (objects, heads)."""
    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Images whose mask has no object."""

    def best_head(self, variant: str, mass: float) -> NDArray[np.float64]:
        """Of each image, the mean over its objects of the best head's overlap."""
        images = self.overlaps[variant, mass]
        return np.array([images[index].max(axis=1).mean() for index in sorted(images)])

    def one_head(self, variant: str, mass: float, head: int) -> NDArray[np.float64]:
        """Of each image, the mean over its objects of one head's overlap."""
        images = self.overlaps[variant, mass]
        return np.array([images[index][:, head].mean() for index in sorted(images)])

    def by_head(self, variant: str, mass: float) -> NDArray[np.float64]:
        """(heads,), each head's overlap averaged over objects, then images."""
        images = self.overlaps[variant, mass]
        return np.stack([images[index].mean(axis=0) for index in sorted(images)]).mean(axis=0)


def evaluate_masks(
    backbone: VisionTransformer,
    identity: Identity,
    scenes: SceneSet,
    settings: MaskSettings,
    *,
    started: float | None = None,
) -> MetricsFile:
    """Measure ``backbone``'s attention masks on ``scenes``.

    Images that cannot be read or whose mask has no object are left out and counted in the notes.

    Raises:
        UserError: A setting does not fit the network, or no image of the set has an object.
    """
    started = time.perf_counter() if started is None else started
    if settings.image_size < backbone.patch_size:
        raise UserError(
            f"--image-size {settings.image_size} is smaller than a patch of {backbone.patch_size} pixels: there would "
            "be no attention map"
        )
    backbone = backbone.to(settings.device)
    tally = _Tally()
    for batch in _batches(_examples(scenes, settings, backbone.patch_size, tally), settings.batch_size):
        _measure(backbone, batch, settings, tally)
    if not tally.overlaps["classes", MASSES[0]]:
        raise UserError(
            f"{scenes.root}: none of its {len(scenes.scenes)} masks can be used ({len(tally.unreadable)} unreadable, "
            f"{len(tally.empty)} without an object; in VOC 0 is background and 255 is void)"
        )
    by_head = tally.by_head("classes", MASSES[0])
    images = len(tally.overlaps["classes", MASSES[0]])
    return describe_evaluation(
        "masks",
        identity,
        metrics=_metrics(tally, by_head),
        settings={
            "masses": list(MASSES),
            "headline": "class regions, 60 % of the mass",
            "image_size": settings.image_size,
            "resize": settings.resize,
            "void": settings.void,
            "precision": settings.precision,
            "split": scenes.split,
            "single_head": int(by_head.argmax()),
            "jaccard_by_head": [round(100 * float(value), 4) for value in by_head],
            "objects": sum(len(overlap) for overlap in tally.overlaps["classes", MASSES[0]].values()),
        },
        data=DataIdentity(name=scenes.name, digest=None, test_digest=scenes.digest, test=images),
        device=settings.device,
        seconds=time.perf_counter() - started,
        notes=_notes(scenes, tally, by_head),
    )


def format_table(document: MetricsFile) -> str:
    """The overlaps for a person."""
    lines = [f"Jaccard of attention masks (best head of each object): {document.data.test} images"]
    lines += [f"{name:>24}  {measure.value:6.2f} %" for name, measure in document.metrics.items()]
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _examples(scenes: SceneSet, settings: MaskSettings, patch_size: int, tally: _Tally) -> Iterator[_Example]:
    """The usable images in order; the others are noted."""
    for index, scene in enumerate(track(scenes.scenes, what="attention masks", total=len(scenes.scenes))):
        try:
            picture, objects = _read(scenes, scene, settings, patch_size)
        except CorruptImage as error:
            _skip(tally, str(error))
        except UnusablePicture as error:
            _skip(tally, f"{scenes.root / scene.image}: {error}")
        else:
            if len(objects["classes"].ids):
                yield _Example(index, picture, objects)
            else:
                tally.empty.append(scene.name)


def _skip(tally: _Tally, message: str) -> None:
    tally.unreadable.append(message)
    logger.warning("skipped an image (%d so far): %s", len(tally.unreadable), message)


def _read(
    scenes: SceneSet, scene: Scene, settings: MaskSettings, patch_size: int
) -> tuple[Picture, dict[str, ObjectPixels]]:
    # As stored: the masks know nothing of EXIF.
    image = decode(scenes.root / scene.image, upright=False)
    keep_aspect = settings.resize == "short-side"
    picture = prepare(image, image_size=settings.image_size, keep_aspect=keep_aspect, patch_size=patch_size)
    height, width = picture.pixels.shape[:2]
    objects = {}
    for variant, path in (("classes", scene.classes), ("instances", scene.instances)):
        if path is None:
            continue
        labels = read_labels(scenes.root / path)
        if labels.shape != picture.original:
            raise CorruptImage(f"{scenes.root / path}: {labels.shape} pixels, its image has {picture.original}")
        labels = resize_labels(labels, picture.resized)[:height, :width]
        objects[variant] = count_objects(labels, patch_size, void=settings.void)
    return picture, objects


def _batches(examples: Iterator[_Example], size: int) -> Iterator[list[_Example]]:
    """Batches of one shape each, in the order in which they fill."""
    waiting: dict[tuple[int, ...], list[_Example]] = defaultdict(list)
    for example in examples:
        batch = waiting[example.picture.pixels.shape]
        batch.append(example)
        if len(batch) == size:
            yield waiting.pop(example.picture.pixels.shape)
    yield from waiting.values()


def _measure(backbone: VisionTransformer, batch: list[_Example], settings: MaskSettings, tally: _Tally) -> None:
    pixels = [example.picture.pixels for example in batch]
    maps = attention_maps(backbone, pixels, device=settings.device, precision=settings.precision)
    attention = maps[:, :, 0].flatten(-2)  # (B, heads, N)
    for mass in MASSES:
        kept = keep_mass(attention, mass).numpy()
        for example, masks in zip(batch, kept, strict=True):
            for variant, objects in example.objects.items():
                if len(objects.ids):
                    tally.overlaps[variant, mass][example.index] = jaccard(masks, objects)


def _metrics(tally: _Tally, by_head: NDArray[np.float64]) -> dict[str, Measure]:
    metrics = {}
    for variant, name in VARIANTS.items():
        for mass in MASSES:
            if tally.overlaps[variant, mass]:
                metrics[name + SUFFIX[mass]] = _mean(tally.best_head(variant, mass))
    metrics["jaccard_single_head"] = _mean(tally.one_head("classes", MASSES[0], int(by_head.argmax())))
    return metrics


def _mean(values: NDArray[np.float64]) -> Measure:
    """The mean over images in %, with its standard error."""
    error = 100 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return Measure(value=100 * float(values.mean()), unit="%", n=len(values), error=error)


def _notes(scenes: SceneSet, tally: _Tally, by_head: NDArray[np.float64]) -> list[str]:
    total = len(scenes.scenes)
    notes = list(scenes.notes)
    notes.append(
        f"jaccard_single_head is head {int(by_head.argmax())} for every object, the best of {len(by_head)} on these "
        "images themselves"
    )
    for what, names in (("unreadable or unusable", tally.unreadable), ("having no object in their mask", tally.empty)):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            notes.append(f"{len(names)} of {total} images skipped as {what}: {shown}")
    return notes
