"""Time of one training step, against the authors' code on the same work where a checkout of it is given.

    python benchmarks/training_step.py --reference ~/dino            # a checkout of facebookresearch/dino
    python benchmarks/training_step.py --device cuda --arch vit_small --batch 64 --precision bf16

A step is: teacher and student forward on 2 global and L local crops, loss and centre, backward, per-tensor clipping,
AdamW, teacher update. Both sides see the same views and start from the same weights. Rounds are interleaved and each
side's fastest counts, so that other load on the machine hits all alike; images per second are of that fastest round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino.config import RunConfig
from dino.models import build_networks
from dino.running.process import configure_process, keep_freed_memory
from dino.training.schedules import build_schedules
from dino.training.step import TrainStep

EPOCHS, STEPS_PER_EPOCH = 10, 100
FIRST_STEP = 3 * STEPS_PER_EPOCH  # past warm-up and last-layer freeze

# Dense bf16 peak of tensor cores, operations per second (vendors' data sheets), for MFU.
PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}


def build_config(options: argparse.Namespace, precision: str) -> RunConfig:
    return RunConfig(
        arch=options.arch,
        patch_size=options.patch_size,
        global_crop_size=options.global_size,
        local_crop_size=options.local_size,
        num_local_crops=options.locals,
        out_dim=options.out_dim,
        batch_size=options.batch,
        epochs=EPOCHS,
        warmup_epochs=1,
        precision=precision,
        compile=options.compile,
    )


def make_views(options: argparse.Namespace, device: torch.device) -> list[Tensor]:
    """View groups: (2 * B, 3, H, H) and (L * B, 3, h, h), standard normal like normalised images."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, options.global_size)] + ([(options.locals, options.local_size)] if options.locals else [])
    return [torch.randn(n * options.batch, 3, side, side, generator=generator).to(device) for n, side in sizes]


def our_step(config: RunConfig, views: list[Tensor], device: torch.device) -> tuple[Callable[[], None], TrainStep]:
    torch.manual_seed(0)
    student, teacher = build_networks(config)
    step = TrainStep(config, student, teacher, build_schedules(config, STEPS_PER_EPOCH), device=device)
    position = iter(range(FIRST_STEP, EPOCHS * STEPS_PER_EPOCH))

    def batches() -> Iterator[list[Tensor]]:
        while True:
            yield views

    source = batches()
    return lambda: (step(next(position), source), None)[1], step


def authors_step(
    folder: Path, config: RunConfig, views: list[Tensor], weights: dict[str, Tensor], device: torch.device
) -> Callable[[], None]:
    """The body of the authors' training loop, on their modules."""
    sys.path.insert(0, str(folder))
    import main_dino
    import utils
    import vision_transformer as vits

    if not torch.distributed.is_initialized():  # their centre update needs a process group
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    half = device.type == "cuda" and config.precision == "fp16"

    def network(**settings: Any) -> torch.nn.Module:
        backbone = vits.__dict__[config.arch](patch_size=config.patch_size, **settings)
        head = vits.DINOHead(backbone.embed_dim, config.out_dim, norm_last_layer=config.norm_last_layer)
        return utils.MultiCropWrapper(backbone, head)

    student, teacher = network(drop_path_rate=config.drop_path_rate), network()
    student.load_state_dict(weights)
    teacher.load_state_dict(weights)
    student, teacher = student.to(device), teacher.to(device)
    teacher.requires_grad_(False)
    objective = main_dino.DINOLoss(
        config.out_dim, 2 + config.num_local_crops, 0.04, config.teacher_temp, EPOCHS // 3, EPOCHS
    ).to(device)
    optimizer = torch.optim.AdamW(utils.get_params_groups(student))
    scaler = torch.amp.GradScaler(device.type) if half else None
    schedules = build_schedules(config, STEPS_PER_EPOCH)
    position = iter(range(FIRST_STEP, EPOCHS * STEPS_PER_EPOCH))
    images = [view for group in views for view in group.split(config.batch_size)]

    def step() -> None:
        index = next(position)
        epoch = index // STEPS_PER_EPOCH
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = schedules.lr[index]
            if number == 0:
                group["weight_decay"] = schedules.weight_decay[index]
        with torch.autocast(device.type, dtype=torch.float16, enabled=half):
            teacher_output = teacher(images[:2])
            loss = objective(student(images), teacher_output, epoch)
        assert loss.isfinite().item()
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            utils.clip_gradients(student, config.clip_grad)
            utils.cancel_gradients_last_layer(epoch, student, config.freeze_last_layer_epochs)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            utils.clip_gradients(student, config.clip_grad)
            utils.cancel_gradients_last_layer(epoch, student, config.freeze_last_layer_epochs)
            scaler.step(optimizer)
            scaler.update()
        momentum = schedules.teacher_momentum[index]
        with torch.no_grad():
            for mine, its in zip(student.parameters(), teacher.parameters(), strict=True):
                its.data.mul_(momentum).add_((1 - momentum) * mine.detach().data)
        loss.item()

    return step


def time_interleaved(
    steps: dict[str, Callable[[], None]], *, rounds: int, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Fastest wall time and CPU time (all threads) of each, seconds.

    Each side has the allocator settings that its own program runs with.
    """
    best: dict[str, tuple[float, float]] = {}
    for step in steps.values():  # warm-up: allocations, compilation, library set-up
        step()
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            keep_freed_memory(name.startswith("ours"))
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            before = best.get(name, (wall, cpu))
            best[name] = (min(wall, before[0]), min(cpu, before[1]))
    return best


def step_operations(step: TrainStep, options: argparse.Namespace) -> float:
    """Floating-point operations of the matrix products that one step needs, as PaLM counts for MFU.

    A multiply-add is two; backward is twice forward; student: all views; teacher: forward on the two globals.
    """
    backbone = step.student.backbone
    blocks, width, patch = len(backbone.blocks), backbone.embed_dim, options.patch_size
    head = sum(p.numel() for name, p in step.student.head.named_parameters() if p.ndim == 2 and "weight_g" not in name)

    def forward(side: int) -> float:
        tokens = (side // patch) ** 2 + 1
        linear = blocks * 12 * width * width * tokens + 3 * patch * patch * width * (tokens - 1)
        attention = blocks * 2 * tokens * tokens * width
        return 2.0 * (linear + attention + head)

    large, small = forward(options.global_size), forward(options.local_size)
    return options.batch * (2 * large + 3 * (2 * large + options.locals * small))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of facebookresearch/dino to compare with")
    parser.add_argument("--arch", default="vit_tiny")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--global-size", type=int, default=224)
    parser.add_argument("--local-size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--locals", type=int, default=8)
    parser.add_argument("--out-dim", type=int, default=65536)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32", "bf16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile our networks")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    configure_process(device)
    views = make_views(options, device)

    steps: dict[str, Callable[[], None]] = {}
    trainers: dict[str, TrainStep] = {}
    for precision in options.precision:
        name = f"ours {precision}"
        steps[name], trainers[name] = our_step(build_config(options, precision), views, device)
    if options.reference:
        weights = {key: value.clone() for key, value in next(iter(trainers.values())).student.state_dict().items()}
        for precision in ["fp32", "fp16"] if device.type == "cuda" else ["fp32"]:
            config = build_config(options, precision)
            steps[f"authors {precision}"] = authors_step(options.reference, config, views, weights, device)

    best = time_interleaved(steps, rounds=options.rounds, device=device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{options.arch}/{options.patch_size}, batch {options.batch}, 2 x {options.global_size} + {options.locals} x "
        f"{options.local_size}, K {options.out_dim}; {where}; torch {torch.__version__}; best of {options.rounds}"
    )
    report: dict[str, dict[str, float]] = {}
    for name, (wall, cpu) in best.items():
        report[name] = {"seconds": wall, "cpu_seconds": cpu, "images_per_second": options.batch / wall}
        line = f"  {name:13} {wall * 1e3:9.1f} ms  {options.batch / wall:8.1f} im/s"
        if device.type == "cpu":
            line += f"  (CPU time {cpu * 1e3:.1f} ms)"
        else:
            peak = next((value for key, value in PEAK_BF16.items() if key in where), None)
            operations = step_operations(next(iter(trainers.values())), options)
            line += f"  {operations / wall / 1e12:6.1f} TFLOP/s"
            if peak:
                report[name]["mfu"] = operations / wall / peak
                line += f"  MFU {operations / wall / peak:.1%} of bf16 peak"
        print(line)
    for theirs in [name for name in best if name.startswith("authors")]:
        for ours in trainers:
            ratio = best[theirs][0] / best[ours][0]
            report[ours][f"ratio_to_{theirs.replace(' ', '_')}"] = ratio
            line = f"  {ours} is {ratio:.2f} times as fast as {theirs}"
            print(line + (f" (by CPU time {best[theirs][1] / best[ours][1]:.2f})" if device.type == "cpu" else ""))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
