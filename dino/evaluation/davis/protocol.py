"""DAVIS 2017 as a protocol (paper.md, C.7): sequences in; masks, J and F, and a metrics file out.

A sequence that cannot be used (a missing or damaged file, a first annotation without an object, frames of two sizes) is
left out with a note that says why; where none is left, that is an error.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from dino.errors import UserError
from dino.evaluation.davis.dataset import DavisSet, Video
from dino.evaluation.davis.masks import Mask, MaskCode, SequenceDefect, read_mask, write_mask
from dino.evaluation.davis.scorer import BOUNDARY_TOLERANCE, ObjectScore, score_frames
from dino.files import atomic_path
from dino.log import logger, track
from dino.metrics import (
    CheckpointIdentity,
    DataIdentity,
    Measure,
    MetricsFile,
    created_now,
    package_versions,
    peak_device_memory_mib,
    peak_memory_mib,
)
from dino.protocols import CODE_VERSION

if TYPE_CHECKING:
    from dino.evaluation.checkpoints import Identity
    from dino.evaluation.davis.segment import SegmentSettings
    from dino.models.vit import VisionTransformer


@dataclass(frozen=True)
class Result:
    """The masks of one sequence."""

    code: MaskCode
    mask: Callable[[str], Mask]
    """Stem -> object numbers (H, W)."""
    masks: dict[str, Mask] = field(default_factory=dict)
    """Those to be kept."""
    target: Path | None = None
    """The folder where they are kept."""


@dataclass
class Outcome:
    """What the sequences of an evaluation gave."""

    scores: list[ObjectScore] = field(default_factory=list)
    frames: int = 0
    """Frames that count, over all sequences."""
    skipped: list[str] = field(default_factory=list)
    """Why, of each sequence left out."""
    notes: list[str] = field(default_factory=list)

    @property
    def sequences(self) -> list[str]:
        """Those that were scored."""
        return list(dict.fromkeys(score.sequence for score in self.scores))


def score_checkpoint(
    backbone: VisionTransformer,
    davis: DavisSet,
    settings: SegmentSettings,
    *,
    results_dir: str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Propagate the first masks through the sequences and score them, each while the next one is propagated.

    Args:
        backbone: In eval mode, on the settings' device.
        davis: The sequences.
        settings: Of features and propagation.
        results_dir: Where the masks go as palette PNGs, ``<sequence>/<frame>.png``; None keeps none.
        workers: Threads that score.
    """
    from dino.evaluation.davis.segment import InputSize, lost_on_grid, segment

    if results_dir is not None and (davis.root / "Annotations").resolve() in Path(results_dir, "x").resolve().parents:
        raise UserError(f"--results-dir {results_dir} holds the true masks: choose another folder")
    outcome = Outcome()

    def masks_of(video: Video) -> Result:
        video.check_frames()
        first_mask, code = video.first_mask()
        frame = (first_mask.shape[0], first_mask.shape[1])
        lost = lost_on_grid(first_mask, code, InputSize.of(frame, settings, backbone.patch_size).grid)
        frames = segment(backbone, video, first_mask, code, settings)
        masks = dict(track(frames, what=video.name, total=len(video.frames)))
        if lost:
            numbers = ", ".join(map(str, lost))
            outcome.notes.append(f"{video.name}: object {numbers} is too small for the grid of patches, and lost")
        target = None if results_dir is None else Path(results_dir, video.name)
        return Result(code, masks.__getitem__, masks, target)

    return _score(davis, masks_of, outcome, workers)


def score_results(folder: str, davis: DavisSet, *, workers: int | None = None) -> Outcome:
    """Score masks that are there, ``folder/<sequence>/<frame>.png``."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"--results {folder}: no such folder")

    def masks_of(video: Video) -> Result:
        results = root / video.name
        if not results.is_dir():
            raise SequenceDefect(f"no results in {results}")
        _, code = video.first_mask()

        def mask(stem: str) -> Mask:
            path = results / f"{stem}.png"
            return code.result(read_mask(path), path)

        return Result(code, mask)

    return _score(davis, masks_of, Outcome(), workers)


def _score(
    davis: DavisSet,
    masks_of: Callable[[Video], Result],
    outcome: Outcome,
    workers: int | None,
) -> Outcome:
    """J and F of every usable sequence; OpenCV, Pillow and NumPy let threads run side by side."""

    def jobs(pool: ThreadPoolExecutor) -> Iterator[tuple[Video, Future[list[ObjectScore]] | SequenceDefect]]:
        for video in davis.videos:
            try:
                yield video, pool.submit(_finish, video, masks_of(video))
            except SequenceDefect as defect:
                yield video, defect

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for video, result in list(jobs(pool)):
            try:
                if isinstance(result, SequenceDefect):
                    raise result
                outcome.scores += result.result()
            except SequenceDefect as defect:
                outcome.skipped.append(f"{video.name}: {defect}")
                logger.warning("sequence skipped: %s: %s", video.name, defect)
                continue
            outcome.frames += len(video.scored)
            unlabelled = len(set(video.frames) - set(video.annotations))
            if unlabelled:
                outcome.notes.append(f"{video.name}: {unlabelled} frames without an annotation are not scored")
    if not outcome.scores:
        raise UserError(f"{davis.root}: no sequence can be scored; the first problem: {outcome.skipped[0]}")
    return outcome


def _finish(video: Video, result: Result) -> list[ObjectScore]:
    """Write the masks that are to be kept, and score them."""
    if result.target is not None:
        for stem, mask in result.masks.items():
            write_mask(result.target / f"{stem}.png", mask)

    def pair(stem: str) -> tuple[Mask, Mask]:
        path = video.annotations[stem]
        annotation, found = result.code.annotation(read_mask(path)), result.mask(stem)
        if annotation.shape != found.shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (found.shape, annotation.shape)]
            raise SequenceDefect(f"{path}: the result has {sizes[0]} pixels, the annotation {sizes[1]}")
        return annotation, found

    return score_frames(video.name, result.code.objects, video.scored, pair)


def make_document(
    outcome: Outcome,
    davis: DavisSet,
    *,
    identity: Identity | None,
    settings: dict[str, Any],
    device: str,
    device_name: str,
    started: float,
) -> MetricsFile:
    """The metrics file.

    Args:
        outcome: What was scored.
        davis: The sequences that were asked for.
        identity: Of the network; None where masks came from elsewhere.
        settings: Of the protocol.
        device: ``cpu``, ``cuda``, ...
        device_name: As people call it.
        started: ``time.perf_counter()`` at the start of the job.
    """
    notes = list(outcome.notes)
    if outcome.skipped:
        notes.append(
            f"{len(outcome.skipped)} of {len(davis.videos)} sequences skipped: "
            + "; ".join(outcome.skipped[:5])
            + ("; ..." if len(outcome.skipped) > 5 else "")
        )
    if identity is None:
        notes.append("the masks do not say what made them: their identity is unknown")
    unknown = CheckpointIdentity(path=None, sha256=None, key=None)
    return MetricsFile(
        protocol="davis",
        metrics=_measures(outcome.scores),
        chance=None,
        settings={**settings, "boundary_tolerance": BOUNDARY_TOLERANCE, "split": davis.split or None},
        run_id=identity.run_id if identity else None,
        fingerprint=identity.fingerprint if identity else None,
        seed=identity.seed if identity else None,
        code_version=CODE_VERSION["davis"],
        data=DataIdentity.model_validate(
            {
                "name": davis.name,
                "digest": None,
                "test_digest": davis.digest(outcome.sequences),
                "test": len(outcome.sequences),
                "objects": len(outcome.scores),
                "frames": outcome.frames,
            }
        ),
        checkpoint=identity.checkpoint if identity else unknown,
        device=device_name,
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_mib=peak_memory_mib(),
        peak_device_memory_mib=peak_device_memory_mib(device),
        created=created_now(),
        notes=notes,
        versions=package_versions(),
    )


def write_sequences(path: str, scores: list[ObjectScore]) -> None:
    """A CSV with a row for each object, in %."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["sequence", "object", "frames", *_percents(scores[0])])
        for score in scores:
            numbers = [f"{value:.4f}" for value in _percents(score).values()]
            writer.writerow([score.sequence, score.object, score.frames, *numbers])


def format_table(document: MetricsFile, scores: list[ObjectScore]) -> str:
    """The scores for a person: a line for each sequence, its objects' mean, and all objects'."""
    lines = [f"{'sequence':24} {'objects':>7} {'J&F %':>7} {'J':>7} {'F':>7}"]
    for name in dict.fromkeys(score.sequence for score in scores):
        own = [score for score in scores if score.sequence == name]
        lines.append(_row(name, own))
    lines.append(_row("all objects", scores))
    metrics = document.metrics
    lines.append(
        "recall J {:.2f}, F {:.2f}; decay J {:.2f}, F {:.2f}".format(
            *(metrics[name].value for name in ("j_recall", "f_recall", "j_decay", "f_decay"))
        )
    )
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _row(name: str, scores: list[ObjectScore]) -> str:
    j, f = (100 * fmean(getattr(score, measure).mean for score in scores) for measure in "jf")
    return f"{name:24} {len(scores):>7} {(j + f) / 2:>7.2f} {j:>7.2f} {f:>7.2f}"


def _percents(score: ObjectScore) -> dict[str, float]:
    """One object's values by the metrics' names."""
    values = {"jf_mean": 50 * (score.j.mean + score.f.mean)}
    for measure, found in (("j", score.j), ("f", score.f)):
        values |= {f"{measure}_{part}": 100 * value for part, value in asdict(found).items()}
    return values


def _measures(scores: list[ObjectScore]) -> dict[str, Measure]:
    """Means over all objects of all sequences, with the standard error of the objects' spread."""
    values = [_percents(score) for score in scores]
    measures = {}
    for name in values[0]:
        column = [each[name] for each in values]
        error = stdev(column) / len(column) ** 0.5 if len(column) > 1 else None
        # A decay is a difference of proportions, not one.
        n = None if name.endswith("decay") else len(column)
        measures[name] = Measure(value=fmean(column), unit="%", n=n, error=error)
    return measures
