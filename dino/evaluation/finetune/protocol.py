"""Fine-tuning of a checkpoint on a labelled set (paper.md, C.3; Tables 6, 11): a run directory in, a metrics file out.

The headline is the accuracy of the weights after the last epoch. Nothing is chosen on the test images: accuracy during
training is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dino.config import build_config
from dino.data.datasets import ImageSet, resolve_dataset
from dino.data.evaluation import EvalImages
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity
from dino.evaluation.document import describe_evaluation
from dino.metrics import (
    DataIdentity,
    Measure,
    MetricsFile,
    percent,
)
from dino.models import build_backbone
from dino.running.checkpoint import RunIdentity
from dino.running.precision import autocast
from dino.running.random_state import derive_seed
from dino.running.resumable import Runner, Running
from dino.running.signals import StopRequest
from dino.training.supervised.classifier import Classifier
from dino.training.supervised.data import LabelledLoader
from dino.training.supervised.recipe import LabelledSettings
from dino.training.supervised.training import LabelledTraining

if TYPE_CHECKING:
    from dino.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class FinetuneJob:
    """What is fine-tuned on what, and where it runs."""

    data: str
    train_split: str
    test_split: str
    workers: int
    running: Running


def finetune(
    backbone: Backbone, identity: Identity, settings: LabelledSettings, job: FinetuneJob, *, stop: StopRequest
) -> MetricsFile | None:
    """Fine-tune ``backbone`` in its run directory (going on where it was) and classify the test images.

    Returns:
        The metrics file's document; None on ranks other than the first.

    Raises:
        UserError: The data sets do not fit together, or the directory belongs to another fine-tuning.
        Interrupted: ``stop`` was requested; the state is saved.
    """
    started = time.perf_counter()
    train, test = resolve_dataset(job.data, split=job.train_split), resolve_dataset(job.data, split=job.test_split)
    if train.classes != test.classes:
        raise UserError(
            f"data set '{train.name}': its {job.train_split} and {job.test_split} images have different classes "
            f"({len(train.classes)} and {len(test.classes)})"
        )
    device, world = job.running.device, job.running.world
    loader = LabelledLoader(settings, train, device=device, world=world, workers=job.workers)
    name = settings.fingerprint(weights=identity.checkpoint.sha256 or str(identity.seed), data=train.digest)
    backbone = with_drop_path(backbone, identity, settings)
    torch.manual_seed(derive_seed(settings.seed, "classifier"))
    model = Classifier(backbone, loader.classes, init_scale=settings.head_init_scale)
    torch.manual_seed(derive_seed(settings.seed, "training", world.rank))
    described = {key: value for key, value in identity.model.items() if key != "img_size" and value is not None}
    config = build_config(
        {
            **described,
            "dataset": train.name,
            "objective": "supervised",
            "seed": settings.seed,
            "epochs": settings.epochs,
            "warmup_epochs": min(settings.warmup_epochs, settings.epochs),
            "global_crop_size": identity.model.get("img_size") or settings.image_size,
            "local_crop_size": identity.model.get("img_size") or settings.image_size,
        }
    )
    values = config.model_dump(mode="json")
    training = LabelledTraining(
        settings,
        model,
        loader,
        identity=RunIdentity(run_id=f"finetune-{name}", fingerprint=name, config=values, data_digest=loader.digest),
        running=job.running,
    )
    runner = Runner(training)
    runner.run(stop)
    if not world.is_main:
        return None
    stop.check()
    return _document(runner, identity, test, job, started=started)


def with_drop_path(backbone: Backbone, identity: Identity, settings: LabelledSettings) -> Backbone:
    """The same network with stochastic depth, which a frozen one is built without; ResNets have none."""
    if identity.model["patch_size"] is None or settings.drop_path == 0.0:
        return backbone
    rebuilt = build_backbone(**identity.model, drop_path_rate=settings.drop_path)
    rebuilt.load_state_dict(backbone.state_dict())
    return rebuilt


@dataclass(frozen=True)
class _Score:
    top1: int
    top5: int
    total: int


def classify(network: Callable[[Tensor], Tensor], images: EvalImages, *, precision: str, classes: int) -> _Score:
    """How many images have their class first, and among the first five (or all of fewer classes)."""
    top1, top5 = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    total = 0
    with torch.inference_mode():
        for batch in images:
            with autocast(precision, images.device):
                logits = network(batch.images)
            best = logits.float().topk(min(5, classes), dim=-1).indices.cpu()
            hits = best == batch.labels[:, None]
            top1 += hits[:, 0].sum()
            top5 += hits.any(dim=1).sum()
            total += len(batch.labels)
    return _Score(int(top1), int(top5), total)


def _document(
    runner: Runner[LabelledTraining], identity: Identity, test: ImageSet, job: FinetuneJob, *, started: float
) -> MetricsFile:
    training = runner.work
    settings, train = training.settings, training.loader.images
    images = EvalImages(
        test,
        resize=settings.resize,
        crop=settings.image_size,
        batch_size=training.loader.micro_batch,
        workers=job.workers,
        device=training.device,
    )
    classes = training.loader.classes
    score = classify(training.model.eval(), images, precision=settings.precision, classes=classes)
    if score.total == 0:
        raise UserError(f"data set '{test.name}': none of its {len(test)} test images can be read: {images.skipped[0]}")
    average = classify(training.average, images, precision=settings.precision, classes=classes)
    notes = ["top1 is of the weights after the last epoch; top1_ema of their moving average"]
    for which, skipped in (("training", train.skipped), ("test", images.skipped)):
        if skipped:
            notes.append(f"{len(skipped)} {which} images skipped as unreadable: {skipped[0]}")
    return describe_evaluation(
        "finetune",
        identity,
        metrics={
            "top1": percent(score.top1, score.total),
            "top5": percent(score.top5, score.total),
            "top1_ema": percent(average.top1, average.total),
            "resolution": Measure(value=settings.image_size, unit="px"),
        },
        chance=100.0 / classes,
        settings={
            **settings.model_dump(mode="json"),
            "peak_lr": settings.lr * settings.batch_size / 512.0,
            "steps": training.total_steps,
        },
        data=DataIdentity(
            name=train.name,
            digest=train.digest,
            test_digest=test.digest,
            train=len(train),
            test=score.total,
            classes=classes,
        ),
        device=training.device,
        seconds=max(runner.seconds(), time.perf_counter() - started),
        notes=notes,
    )
