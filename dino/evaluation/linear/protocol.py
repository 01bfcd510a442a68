"""Linear probes as a protocol (paper.md, C.2): a frozen backbone and a data set in, a metrics file out.

The paper swept the learning rate for each network and reports the best epoch on the test images. Here the headline is
that of the last epoch at a learning rate that was chosen on a held-out tenth of the training images (an assumption: the
paper's grid and choice are not published); the best of all epochs and rates on the test images stands beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dino.data import EvalImages, ImageSet, resolve_dataset
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity
from dino.evaluation.document import describe_evaluation
from dino.evaluation.features.extraction import extract_features, refuse_equal_splits
from dino.evaluation.linear.crops import TrainCrops
from dino.evaluation.linear.features import PAPER, RESNET, JointFeature, default_headline
from dino.evaluation.linear.held_out import choose_held_out, part_of
from dino.evaluation.linear.outcome import Outcome
from dino.evaluation.linear.probes import ProbeBank
from dino.evaluation.linear.recipe import ProbeSettings
from dino.evaluation.linear.training import ProbeTraining
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
    percent,
)
from dino.running.checkpoint import CheckpointFile
from dino.running.resumable import Runner
from dino.running.signals import StopRequest

if TYPE_CHECKING:
    from dino.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class LinearJob:
    """What is probed on what, and where it runs."""

    data: str
    train_split: str
    test_split: str
    output: Path
    """The metrics file; the state of the training is kept beside it."""
    device: torch.device
    workers: int


def evaluate_linear(
    backbone: Backbone, identity: Identity, settings: ProbeSettings, job: LinearJob, *, stop: StopRequest
) -> MetricsFile:
    """Train the probes (going on where an earlier process was) and measure them.

    Raises:
        UserError: The data sets do not fit together or the network's features are not finite.
        Interrupted: ``stop`` was requested; the state is saved.
    """
    started = time.perf_counter()
    train, test = _resolve(job)
    headline = settings.headline or default_headline(identity.model["arch"], backbone)
    names = settings.features or (PAPER if headline != RESNET else (RESNET,))
    joint = JointFeature(backbone.to(job.device), list(dict.fromkeys([*names, headline]))).eval()
    held_out = choose_held_out(train.labels, settings.held_out)
    if len(settings.lrs) > 1 and not held_out.any():
        raise UserError(
            f"data set '{train.name}' has one training image a class: none can be held out to choose the learning "
            "rate; give one with --lrs"
        )
    columns = _distinct(joint)
    bank = ProbeBank(
        columns,
        classes=len(train.classes),
        lrs=[lr * settings.batch_size / 256 for lr in settings.lrs],
        seed=settings.seed,
        device=job.device,
    )
    crops = TrainCrops(
        train,
        size=settings.image_size,
        batch_size=settings.batch_size,
        micro_batch=settings.micro_batch,
        seed=settings.seed,
        device=job.device,
        workers=job.workers,
    )
    test_images = _plain(test, settings, job)
    tested = extract_features(joint, test_images, precision=settings.precision)
    if not np.isfinite(tested.features).all():
        raise UserError(f"{identity.checkpoint.path}: its features are not finite numbers; its weights have diverged")
    training = ProbeTraining(
        settings,
        joint,
        bank,
        crops,
        labels=torch.from_numpy(train.labels),
        held_out=torch.from_numpy(held_out),
        test_features=torch.from_numpy(tested.features),
        test_labels=torch.from_numpy(tested.labels),
        checkpoints=CheckpointFile(
            state_file(job.output),
            settings.fingerprint(
                weights=identity.checkpoint.sha256 or str(identity.seed), data=[train.digest, test.digest]
            ),
        ),
    )
    runner = Runner(training)
    runner.run(stop)
    stop.check()
    trials, trial_images = None, 0
    if bank.trials:
        images = _plain(part_of(train, np.flatnonzero(held_out)), settings, job)
        trials = training.score_held_out(images).numpy()
        trial_images = int(held_out.sum()) - len(images.skipped)
    outcome = Outcome(
        headline=headline,
        index={name: columns.index(part) for name, part in joint.columns.items()},
        scores=torch.stack(training.scores).numpy(),
        trials=trials,
        trial_images=trial_images,
        tested=len(tested.labels),
    )
    seconds = max(runner.seconds(), time.perf_counter() - started)
    return _document(outcome, identity, training, (train, test), job, held_out=held_out, seconds=seconds)


def state_file(output: Path) -> Path:
    """Where the training of probes that ``output`` will tell of is kept until then."""
    return output.with_name(f".{output.stem}.partial.pth")


def format_table(document: MetricsFile) -> str:
    """The accuracies for a person: a line for each feature, the headline marked."""
    settings = document.settings
    lines = [f"linear probes: {document.data.test} test images, {document.data.train} training images"]
    lines.append(f"{'feature':>8}  {'dim':>5}  {'lr':>8}  {'top-1 %':>8}  {'best %':>8}")
    for name, row in settings["probes"].items():
        mark = "  headline" if name == settings["headline"] else ""
        lines.append(f"{name:>8}  {row['dim']:>5}  {row['lr']:>8g}  {row['top1']:>8.2f}  {row['best']:>8.2f}{mark}")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


def _document(
    outcome: Outcome,
    identity: Identity,
    training: ProbeTraining,
    data: tuple[ImageSet, ImageSet],
    job: LinearJob,
    *,
    held_out: NDArray[np.bool_],
    seconds: float,
) -> MetricsFile:
    settings, (train, test), tested = training.settings, data, outcome.tested
    metrics = {
        "top1": percent(outcome.count(outcome.headline), tested),
        "top5": percent(outcome.count(outcome.headline, 1), tested),
        "top1_best_epoch": percent(outcome.best(outcome.headline)[0], tested),
    }
    for name, part in training.joint.columns.items():
        if name != RESNET:
            metrics[f"top1_{name}"] = percent(outcome.count(name), tested)
            metrics[f"dim_{name}"] = Measure(value=part.stop - part.start, unit="count")
    index = outcome.index[outcome.headline]
    curve = outcome.scores[:, 0, index, outcome.choice(outcome.headline)]
    return describe_evaluation(
        "linear",
        identity,
        metrics=metrics,
        chance=100.0 / len(train.classes),
        settings={
            **settings.model_dump(mode="json"),
            "headline": outcome.headline,
            "features": list(training.joint.columns),
            "probes": {name: _row(outcome, name, training) for name in training.joint.columns},
            "top1_by_epoch": [100.0 * float(count) / tested for count in curve],
            "held_out_images": int(held_out.sum()) if outcome.trials is not None else 0,
            "steps": training.total_steps,
            "objective": "cross-entropy; SGD, momentum 0.9; lr = base * batch / 256, by epoch a cosine to 0",
        },
        data=DataIdentity(
            name=train.name,
            digest=train.digest,
            test_digest=test.digest,
            train=len(training.loader),
            test=tested,
            classes=len(train.classes),
        ),
        device=job.device,
        seconds=seconds,
        notes=_notes(outcome, training, data),
    )


def _row(outcome: Outcome, name: str, training: ProbeTraining) -> dict[str, Any]:
    """What the metrics file says of one feature."""
    lrs, chosen, index = training.settings.lrs, outcome.choice(name), outcome.index[name]
    part = training.joint.columns[name]
    best, epoch, rate = outcome.best(name)
    row = {
        "dim": part.stop - part.start,
        "lr": lrs[chosen],
        "top1": 100.0 * outcome.count(name) / outcome.tested,
        "best": 100.0 * best / outcome.tested,
        "best_epoch": epoch,
        "best_lr": lrs[rate],
        "top1_by_lr": [100.0 * float(count) / outcome.tested for count in outcome.scores[-1, 0, index]],
    }
    if outcome.trials is not None:
        counts = outcome.trials[0, index]
        row["held_out_top1_by_lr"] = [100.0 * float(count) / outcome.trial_images for count in counts]
    return row


def _notes(outcome: Outcome, training: ProbeTraining, data: tuple[ImageSet, ImageSet]) -> list[str]:
    notes = []
    lrs, share = training.settings.lrs, training.settings.held_out
    if outcome.trials is not None:
        chosen = outcome.choice(outcome.headline)
        notes.append(
            f"top1 is of the last epoch at the base learning rate {lrs[chosen]:g}, chosen among {len(lrs)} on "
            f"{share:.0%} of the training images"
        )
        if chosen in (0, len(lrs) - 1):
            notes.append(f"{lrs[chosen]:g} is at the edge of the grid of learning rates: another may be better")
    _, epoch, rate = outcome.best(outcome.headline)
    notes.append(
        f"top1_best_epoch is the best of all epochs and learning rates on the test set itself: epoch {epoch}, "
        f"base learning rate {lrs[rate]:g}"
    )
    depth = getattr(training.joint.backbone, "depth", None)
    beyond = [name for name in training.joint.columns if name[1:].isdigit() and depth and int(name[1:]) > depth]
    if beyond:
        notes.append(f"the network has {depth} blocks: {' and '.join(beyond)} take all of them")
    for which, images in zip(("training", "test"), data, strict=True):
        if images.skipped:
            notes.append(f"{len(images.skipped)} {which} images skipped as unreadable: {images.skipped[0]}")
    return notes


def _resolve(job: LinearJob) -> tuple[ImageSet, ImageSet]:
    train, test = (resolve_dataset(job.data, split=split) for split in (job.train_split, job.test_split))
    refuse_equal_splits(job.data, (train, test))
    if train.labels.ndim > 1:
        raise UserError(f"data set '{train.name}' has several labels an image; a linear probe needs one")
    if train.classes != test.classes:
        raise UserError(
            f"data set '{train.name}': its {job.train_split} and {job.test_split} images have different classes "
            f"({len(train.classes)} and {len(test.classes)})"
        )
    return train, test


def _plain(images: ImageSet, settings: ProbeSettings, job: LinearJob) -> EvalImages:
    """Images without augmentation."""
    return EvalImages(
        images,
        resize=settings.resize,
        crop=settings.image_size,
        batch_size=settings.micro_batch,
        workers=job.workers,
        device=job.device,
    )


def _distinct(joint: JointFeature) -> list[slice]:
    """The columns of all features, each once."""
    found: list[slice] = []
    for part in joint.columns.values():
        if part not in found:
            found.append(part)
    return found
