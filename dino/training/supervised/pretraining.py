"""``objective: supervised``: the paper's supervised baselines as runs like any other (Fig. 4, Tables 3-6).

The paper takes DeiT's published weights where there are some; this trains such a network by DeiT's recipe. Of a
`RunConfig` it reads the data set, backbone, epochs, batch, learning rate, warm-up, decay, clipping, precision, crop
size and seed; the rest of the recipe is `LabelledSettings`'s own.
"""

from __future__ import annotations

import torch

from dino.config import RunConfig
from dino.data.datasets import resolve_dataset
from dino.models.network import build_student_backbone
from dino.running.checkpoint import RunIdentity
from dino.running.distributed import World
from dino.running.random_state import derive_seed
from dino.running.resumable import Running
from dino.training.supervised.classifier import Classifier
from dino.training.supervised.data import LabelledLoader
from dino.training.supervised.recipe import LabelledSettings, build_settings
from dino.training.supervised.training import LabelledTraining


def settings_of(config: RunConfig) -> LabelledSettings:
    """DeiT's recipe with what ``config`` says."""
    size = config.global_crop_size
    return build_settings(
        {
            "epochs": config.epochs,
            "batch_size": config.batch_size,
            "accumulate_steps": config.accumulate_steps,
            "optimizer": "sgd" if config.optimizer == "sgd" else "adamw",
            "lr": 2.0 * config.base_lr,  # of batch 512, not 256
            "warmup_epochs": config.warmup_epochs,
            "min_lr": config.min_lr,
            "weight_decay": config.weight_decay,
            "clip_grad": config.clip_grad,
            "drop_path": config.drop_path_rate,
            "image_size": size,
            "resize": round(size * 8 / 7) if size >= 160 else size,
            "head_init_scale": 1.0,
            "precision": config.precision,
            "seed": config.seed,
        },
        where="supervised",
    )


def build_labelled_loader(config: RunConfig, *, device: torch.device, world: World, workers: int) -> LabelledLoader:
    """The labelled training images of ``config.dataset``.

    Raises:
        UserError: They are missing, too few, or have several labels each.
    """
    images = resolve_dataset(config.dataset, split="train")
    return LabelledLoader(settings_of(config), images, device=device, world=world, workers=workers)


def build_supervised_pretraining(config: RunConfig, loader: LabelledLoader, running: Running) -> LabelledTraining:
    """The run of ``config`` from random weights."""
    settings = settings_of(config)
    torch.manual_seed(derive_seed(config.seed, "networks"))
    model = Classifier(build_student_backbone(config), loader.classes, init_scale=settings.head_init_scale)
    torch.manual_seed(derive_seed(config.seed, "training", running.world.rank))
    return LabelledTraining(settings, model, loader, identity=RunIdentity.of(config, loader.digest), running=running)
