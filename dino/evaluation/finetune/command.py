"""``dino finetune``: fine-tune a checkpoint on a labelled data set; run again, it goes on where it was."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dino.running.options import add_run_arguments, check_numbers, default_workers, set_up, with_all_ranks

# option -> field of `LabelledSettings`, type, help
SETTINGS: dict[str, tuple[str, type, str]] = {
    "epochs": ("epochs", float, "epochs"),
    "batch-size": ("batch_size", int, "images of a step, over all ranks"),
    "accumulate-steps": ("accumulate_steps", int, "micro-batches of a step"),
    "optimizer": ("optimizer", str, "adamw or sgd"),
    "lr": ("lr", float, "learning rate at batch 512"),
    "warmup-epochs": ("warmup_epochs", float, "epochs of rising learning rate"),
    "min-lr": ("min_lr", float, "learning rate at the end"),
    "weight-decay": ("weight_decay", float, "weight decay"),
    "clip-grad": ("clip_grad", float, "largest norm of a tensor's gradient; 0 is off"),
    "drop-path": ("drop_path", float, "stochastic depth of the last block"),
    "image-size": ("image_size", int, "side of the images, pixels"),
    "resize": ("resize", int, "short side of a test image before its central crop"),
    "color-jitter": ("color_jitter", float, "strength, where RandAugment is off"),
    "rand-augment": ("rand_augment", str, "timm's RandAugment string; '' is off"),
    "random-erasing": ("random_erasing", float, "probability"),
    "mixup": ("mixup", float, "alpha; 0 is off"),
    "cutmix": ("cutmix", float, "alpha; 0 is off"),
    "label-smoothing": ("label_smoothing", float, "share of the uniform target"),
    "repeats": ("repeats", int, "times an image stands in an epoch"),
    "model-ema": ("model_ema", float, "decay of the weights' moving average"),
    "head-init-scale": ("head_init_scale", float, "factor on the new classifier's weights"),
    "precision": ("precision", str, "fp32, bf16 or fp16"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino finetune``."""
    from dino.evaluation.runtime import add_checkpoint_arguments, add_runtime_arguments

    group = parser.add_argument_group("what")
    add_checkpoint_arguments(group, required=True)
    group.add_argument("--data", required=True, metavar="D", help="a registered data set's name or a folder")
    group.add_argument("--train-split", default="train", metavar="S", help="default train")
    group.add_argument("--test-split", default="test", metavar="S", help="default test")
    parser.add_argument("--output", required=True, type=Path, metavar="F.json", help="the metrics file to write")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="where it is resumed from (default: beside --output)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read images (default: by cores)")
    recipe = parser.add_argument_group("recipe (defaults: DeiT's, with what is known of the data set)")
    for option, (field, kind, text) in SETTINGS.items():
        recipe.add_argument(f"--{option}", dest=f"set_{field}", type=kind, metavar="X", help=text)
    add_run_arguments(parser)
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Fine-tune, write the metrics file and print the accuracy."""
    from dino.training.supervised.recipe import finetune_settings

    check_numbers(options)
    settings = finetune_settings(options.data, _overrides(options))
    run_dir = options.run_dir or options.output.with_name(f"{options.output.stem}-run")

    from dino.running.signals import StopRequest

    with StopRequest() as stop:
        from dino.evaluation.checkpoints import load_from_options
        from dino.evaluation.finetune.protocol import FinetuneJob, finetune
        from dino.metrics import write_metrics

        running = set_up(options, run_dir)
        backbone, identity = load_from_options(options, image_size=settings.image_size)
        job = FinetuneJob(
            data=options.data,
            train_split=options.train_split,
            test_split=options.test_split,
            workers=default_workers(running.device) if options.workers is None else options.workers,
            running=running,
        )
        with with_all_ranks(running, stop):
            document = finetune(backbone, identity, settings, job, stop=stop)
    if document is None:
        return
    write_metrics(options.output, document)
    if not options.quiet:
        top1, top5 = document.metrics["top1"], document.metrics["top5"]
        what = f"fine-tuned on {document.data.name}, {top1.n} test images"
        print(f"{what}: top-1 {top1.value:.2f} %, top-5 {top5.value:.2f} %")


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    values = {field: getattr(options, f"set_{field}") for field, _, _ in SETTINGS.values()}
    chosen = {field: value for field, value in values.items() if value is not None}
    if options.seed is not None:
        chosen["seed"] = options.seed
    return chosen
