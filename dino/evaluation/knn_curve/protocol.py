"""k-NN of teacher and student over the epochs of one pretraining (paper.md, B.2; paper Fig. 6, App. D).

Each snapshot's two backbones see every image in one pass. What a snapshot gave is kept beside the output until the last
is done, so that a job that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dino.data import EvalImages, ImageSet, resolve_dataset
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity, load_evaluated
from dino.evaluation.document import describe_evaluation
from dino.evaluation.features.extraction import (
    choose_preprocessing,
    default_workers,
    extract_features,
    refuse_equal_splits,
)
from dino.evaluation.features.files import Preprocessing
from dino.evaluation.knn_curve.points import CurvePoint, KeptPoints
from dino.evaluation.scoring.neighbours import iterate_neighbours, normalise_
from dino.evaluation.scoring.votes import target_ranks
from dino.files import sha256_file
from dino.log import logger
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
)
from dino.protocols import CODE_VERSION
from dino.training.snapshots import find_snapshots

NETWORKS = ("teacher", "student")


@dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """Which snapshots, on which images, and how."""

    snapshots: Path
    """The folder ``snapshots`` of a run."""
    data: str
    device: torch.device
    k: int = 20
    temperature: float = 0.07
    image_size: int | None = None
    resize: int | None = None
    precision: str = "fp32"
    batch_size: int = 128
    workers: int | None = None
    memory_mib: int = 512


def evaluate_curve(settings: CurveSettings, output: Path) -> MetricsFile:
    """The metrics of every snapshot; ``output`` names the file that they will be written to.

    Raises:
        UserError: There are no snapshots, they are of several runs, or data or a setting are wrong.
    """
    started = time.perf_counter()
    files = find_snapshots(settings.snapshots)
    if not files:
        raise UserError(f"{settings.snapshots}: no snapshots there; `dino pretrain --snapshots N` keeps them")
    if not settings.temperature > 0:
        raise UserError(f"the temperature of k-NN's votes must be positive (got {settings.temperature:g})")
    train, test = (resolve_dataset(settings.data, split=split) for split in ("train", "test"))
    refuse_equal_splits(settings.data, (train, test))
    for images in (train, test):
        if images.labels.ndim > 1:
            raise UserError(f"{settings.data}: its images have several labels, and this curve is of top-1 accuracy")
    identity = load_evaluated(str(files[-1][1]))[1]
    preprocessing = choose_preprocessing(
        identity.model, image_size=settings.image_size, resize=settings.resize, precision=settings.precision
    )
    made_from = {
        "code_version": CODE_VERSION["knn_curve"],
        "data": [train.digest, test.digest],
        "k": settings.k,
        "temperature": settings.temperature,
        "preprocessing": preprocessing.model_dump(mode="json"),
    }
    kept = KeptPoints(output, made_from)
    curve = _Curve(settings, preprocessing, train, test)
    points = []
    for epoch, path in files:
        digest = sha256_file(path)
        point = kept.get(epoch, digest)
        if point is None:
            point = curve.measure(epoch, path, digest, identity)
            kept.add(point)
        logger.info("epoch %d: teacher %.2f %%, student %.2f %%", epoch, point.teacher.value, point.student.value)
        points.append(point)
    kept.forget()
    return _document(settings, points, curve, preprocessing, identity, started)


def format_table(document: MetricsFile) -> str:
    """The curve for a person."""
    metrics = document.metrics
    lines = [f"{'epoch':>5}  {'teacher %':>9}  {'student %':>9}"]
    for epoch in document.settings["epochs"]:
        values = (metrics[f"{name}_e{epoch}"].value for name in NETWORKS)
        lines.append(f"{epoch:>5}  {next(values):>9.2f}  {next(values):>9.2f}")
    gaps = metrics["teacher_minus_student"].value, metrics["smallest_gap"].value
    lines.append(f"teacher minus student: {gaps[0]:+.2f} points on average, {gaps[1]:+.2f} at least")
    return "\n".join([*lines, *(f"note: {note}" for note in document.notes)])


class _Both(nn.Module):
    """Both backbones on the same images: (b, 3, H, W) -> (b, 2 D)."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([network(images) for network in self.networks], dim=1)


class _Curve:
    """Measures snapshots on one data set, whose images are read once where they fit into memory."""

    def __init__(self, settings: CurveSettings, preprocessing: Preprocessing, train: ImageSet, test: ImageSet) -> None:
        self.settings, self.train, self.test = settings, train, test
        self.bank_size = len(train)
        """Training images; those that could be read, once features have been made."""
        self._images = [
            EvalImages(
                images,
                resize=preprocessing.resize,
                crop=preprocessing.image_size,
                batch_size=settings.batch_size,
                workers=default_workers(settings.workers),
                device=settings.device,
            )
            for images in (train, test)
        ]

    def measure(self, epoch: int, path: Path, digest: str, run: Identity) -> CurvePoint:
        """The point of one snapshot, which must be of ``run``."""
        networks = []
        for key in NETWORKS:
            backbone, identity = load_evaluated(str(path), key=key)
            if identity.fingerprint != run.fingerprint:
                raise UserError(f"{path} is of the run {identity.run_id}, the last snapshot of {run.run_id}")
            networks.append(backbone)
        both = _Both(networks).to(self.settings.device).eval()
        train, test = (extract_features(both, images, precision=self.settings.precision) for images in self._images)
        self.bank_size = len(train.labels)
        if self.settings.k > len(train.labels):
            raise UserError(f"--k {self.settings.k} is larger than the training set of {len(train.labels)} images")
        width = train.features.shape[1] // 2
        right = [
            self._right(train.features[:, part], train.labels, test.features[:, part], test.labels, path)
            for part in (slice(0, width), slice(width, None))
        ]
        teacher, student = (each.cpu().numpy() for each in right)
        return CurvePoint(
            epoch=epoch,
            sha256=digest,
            total=len(test.labels),
            both=int((teacher & student).sum()),
            teacher_only=int((teacher & ~student).sum()),
            student_only=int((~teacher & student).sum()),
        )

    def _right(
        self,
        bank: np.ndarray,
        labels: np.ndarray,
        queries: np.ndarray,
        targets: np.ndarray,
        path: Path,
    ) -> Tensor:
        """Which test images (M,) are classified rightly."""
        if not (np.isfinite(bank).all() and np.isfinite(queries).all()):
            raise UserError(f"{path}: its features are not finite numbers; its weights have diverged")
        device, k = self.settings.device, self.settings.k
        # Copies: half of the columns of an array are no array of their own.
        known, asked = (normalise_(torch.tensor(part, device=device)) for part in (bank, queries))
        known_labels, wanted = (torch.from_numpy(part).to(device) for part in (labels, targets))
        classes = 1 + int(torch.maximum(known_labels.max(), wanted.max()))
        right = torch.zeros(len(wanted), dtype=torch.bool, device=device)
        chunks = iterate_neighbours(
            asked, known, k=k, memory_mib=self.settings.memory_mib, reserve_bytes_per_query=12 * classes
        )
        for rows, similarities, indices in chunks:
            ranks = target_ranks(
                similarities,
                known_labels[indices],
                wanted[rows],
                ks=[k],
                temperature=self.settings.temperature,
                classes=classes,
            )
            right[rows] = ranks[0] == 0
        return right

    def notes(self) -> list[str]:
        """What was left out."""
        found = []
        for images in (self.train, self.test):
            if images.skipped:
                first = images.skipped[0]
                found.append(
                    f"{len(images.skipped)} of {len(images)} {images.split} images skipped as unreadable: {first}"
                )
        return found


def _document(
    settings: CurveSettings,
    points: list[CurvePoint],
    curve: _Curve,
    preprocessing: Preprocessing,
    identity: Identity,
    started: float,
) -> MetricsFile:
    metrics = {f"teacher_e{point.epoch}": point.teacher for point in points}
    metrics |= {f"student_e{point.epoch}": point.student for point in points}
    metrics["top1"], metrics["student_top1"] = points[-1].teacher, points[-1].student
    gaps = [point.gap for point in points]
    metrics["teacher_minus_student"] = Measure(
        value=sum(gap.value for gap in gaps) / len(gaps),
        unit="points",
        # All epochs are measured on the same images: their errors do not average out.
        error=sum(gap.error or 0.0 for gap in gaps) / len(gaps),
    )
    metrics["smallest_gap"] = min(gaps, key=lambda gap: gap.value)
    return describe_evaluation(
        "knn_curve",
        identity,
        metrics=metrics,
        chance=100.0 / len(curve.train.classes),
        settings={
            "k": settings.k,
            "temperature": settings.temperature,
            "epochs": [point.epoch for point in points],
            "preprocessing": preprocessing.model_dump(),
        },
        data=DataIdentity(
            name=curve.train.name,
            digest=curve.train.digest,
            test_digest=curve.test.digest,
            train=curve.bank_size,
            test=points[-1].total,
            classes=len(curve.train.classes),
        ),
        checkpoint=identity.checkpoint.model_copy(update={"key": None}),
        device=settings.device,
        seconds=time.perf_counter() - started,
        notes=["`checkpoint` is the last snapshot; top1 is its teacher's", *curve.notes()],
    )
