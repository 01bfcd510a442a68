from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino.data.datasets import resolve_dataset
from dino.errors import EXIT_REQUEUE, DivergenceError, Interrupted, UserError
from dino.models import build_backbone, load_backbone
from dino.running.checkpoint import RunIdentity, read_checkpoint
from dino.running.distributed import World, find_world, start_process_group, stop_process_group
from dino.running.journal import read
from dino.running.resumable import Runner, Running
from dino.running.signals import StopRequest
from dino.training.supervised.classifier import Classifier
from dino.training.supervised.data import LabelledLoader
from dino.training.supervised.pretraining import settings_of
from dino.training.supervised.recipe import LabelledSettings
from dino.training.supervised.training import LabelledTraining, learning_rates
from tests.dino.running.processes import can_fork, run_ranks
from tests.dino.training.supervised.labelled import tiny_settings, write_images
from tests.dino.training.tiny import equal_bits, tiny_config

CPU = torch.device("cpu")


def build(
    folder: Path,
    run_dir: Path,
    *,
    name: str = "abc",
    world: World | None = None,
    running: dict[str, Any] | None = None,
    **changes: object,
) -> Runner[LabelledTraining]:
    settings, world = tiny_settings(**changes), world or World()
    loader = LabelledLoader(settings, resolve_dataset(folder, split="train"), device=CPU, world=world, workers=0)
    torch.manual_seed(0)
    shape = {"arch": "vit_nano", "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    backbone = build_backbone(**shape, img_size=16, drop_path_rate=settings.drop_path)
    model = Classifier(backbone, loader.classes, init_scale=settings.head_init_scale)
    config = tiny_config(objective="supervised", global_crop_size=16).model_dump(mode="json")
    identity = RunIdentity(run_id=f"run-{name}", fingerprint=name, config=config, data_digest=loader.digest)
    where = Running(run_dir=run_dir, device=CPU, world=world, **running or {})
    return Runner(LabelledTraining(settings, model, loader, identity=identity, running=where))


class StopAt(StopRequest):
    """Asks to stop once the training has made so many steps."""

    def __init__(self, training: Runner[LabelledTraining], step: int) -> None:
        super().__init__()
        self.training, self.at = training, step

    def __bool__(self) -> bool:
        return self.training.step >= self.at


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoint.pth", weights_only=True)["student"]


def test_colours_are_learnt_and_the_checkpoint_is_a_backbone_like_any_other(tmp_path: Path) -> None:
    training = build(write_images(tmp_path / "data"), tmp_path / "run", epochs=12, mixup=0.0, cutmix=0.0)
    training.run(StopRequest())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == training.work.total_steps == 36
    assert lines[-1]["metrics"]["loss"] < 0.8 * lines[0]["metrics"]["loss"]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
    backbone, info = load_backbone(tmp_path / "run" / "checkpoint.pth")
    assert info["embed_dim"] == 16
    assert torch.equal(backbone.state_dict()["cls_token"], training.work.model.backbone.state_dict()["cls_token"])


def test_a_run_stopped_in_the_middle_of_an_epoch_ends_with_the_same_bits(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    whole = build(folder, tmp_path / "whole", accumulate_steps=2, rand_augment="rand-m9-mstd0.5-inc1")
    whole.run(StopRequest())
    for stop in (4, 7):
        part = build(folder, tmp_path / "part", accumulate_steps=2, rand_augment="rand-m9-mstd0.5-inc1")
        with pytest.raises(Interrupted, match=f"step {stop}"):
            part.run(StopAt(part, stop))
    rest = build(folder, tmp_path / "part", accumulate_steps=2, rand_augment="rand-m9-mstd0.5-inc1")
    rest.run(StopRequest())
    expected = weights_of(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(tmp_path / "part").items())
    journals = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "part")]
    losses = [[json.loads(line)["metrics"]["loss"] for line in lines] for lines in journals]
    assert losses[0] == losses[1]


def test_another_run_s_directory_and_changed_images_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    part = build(folder, tmp_path / "run")
    with pytest.raises(Interrupted):
        part.run(StopAt(part, 2))
    with pytest.raises(UserError, match="belongs to the configuration abc"):
        build(folder, tmp_path / "run", name="other").run(StopRequest())
    (folder / "train" / "red" / "000.png").write_bytes((folder / "train" / "blue" / "000.png").read_bytes() + b" ")
    with pytest.raises(UserError, match="data set has changed"):
        build(folder, tmp_path / "run").run(StopRequest())


def test_a_loss_that_is_not_finite_stops_with_the_likely_causes(tmp_path: Path) -> None:
    training = build(write_images(tmp_path / "data"), tmp_path / "run")
    with torch.no_grad():
        training.work.model.head.weight.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="learning rate"):
        training.run(StopRequest())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_the_rate_warms_up_to_deit_s_peak_and_falls_to_its_floor() -> None:
    table = learning_rates(LabelledSettings(), steps_per_epoch=10)
    assert len(table) == 3000
    assert table[0] == 1e-6
    assert table[49] == table[50] == pytest.approx(1e-3)  # 5e-4 * 1024 / 512
    assert np.all(np.diff(table[50:]) <= 0)
    assert table[-1] == pytest.approx(1e-5, rel=0.01)


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    training = build(write_images(tmp_path / "data"), tmp_path / "run", model_ema=0.0)
    training.run(StopRequest())
    average, weights = training.work.average.state_dict(), training.work.model.state_dict()
    assert all(torch.equal(average[name], value) for name, value in weights.items())


def test_a_supervised_configuration_has_deit_s_peak_rate() -> None:
    settings = settings_of(tiny_config(objective="supervised", base_lr=2.5e-4, batch_size=1024, epochs=300))
    assert learning_rates(settings, 10).max() == pytest.approx(1e-3)
    assert settings.rand_augment == "rand-m9-mstd0.5-inc1"
    assert settings.head_init_scale == 1.0


def test_it_saves_and_logs_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino.running.resumable.CHECKPOINT_SHARE", 1e9)  # every epoch, however short
    folder = write_images(tmp_path / "data")

    def saved(name: str, **running: Any) -> tuple[list[int], list[int]]:
        """Steps of partial checkpoints and of logged points; 4 epochs of 3 steps."""
        training, steps = build(folder, tmp_path / name, running=running), []
        save = training.work.checkpoints.save
        training.work.checkpoints.save = lambda state: (steps.append(state["step"]), save(state))[1]  # type: ignore[method-assign]
        training.run(StopRequest())
        return steps, [record.step for record in read(tmp_path / name)]

    assert saved("epochs", log_every=5) == ([3, 6, 9, 12], [5, 10, 12])
    assert saved("seldom", checkpoint_every_epochs=2) == ([6, 12], list(range(1, 13)))
    assert saved("often", checkpoint_minutes=0.0)[0] == list(range(1, 13))


def test_a_weight_that_goes_bad_without_a_bad_loss_is_not_saved(tmp_path: Path) -> None:
    training = build(write_images(tmp_path / "data"), tmp_path / "run", running={"checkpoint_minutes": 0.0})
    average = training.work._averaging.after_step

    def break_a_weight(**arguments: Any) -> None:
        average(**arguments)
        if training.step == 4:
            with torch.no_grad():
                training.work.model.head.weight[0, 0] = float("inf")

    training.work._averaging.after_step = break_a_weight  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="step 4: a weight is not finite.*of step 4, is kept"):
        training.run(StopRequest())
    partials = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(partials) == ["step-00000003.pth", "step-00000004.pth"]
    assert not (tmp_path / "run" / "checkpoint.pth").exists()


def test_a_checkpoint_between_logged_points_keeps_what_the_next_one_needs(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    build(folder, tmp_path / "whole", running={"log_every": 4}).run(StopRequest())
    part = build(folder, tmp_path / "part", running={"log_every": 4})
    with pytest.raises(Interrupted):
        part.run(StopAt(part, 6))
    assert read_checkpoint(tmp_path / "part" / "checkpoints" / "step-00000006.pth")["watch"]["logged_step"] == 4
    build(folder, tmp_path / "part", running={"log_every": 4}).run(StopRequest())
    whole, parts = ([(r.step, r.metrics["loss"]) for r in read(tmp_path / name)] for name in ("whole", "part"))
    assert whole == parts


@can_fork
def test_two_ranks_stop_at_the_same_step_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")

    def rank(run_dir: Path, *, stop_step: int | None = None) -> int:
        torch.set_num_threads(1)
        world = find_world()
        start_process_group(world, CPU)
        training = build(folder, run_dir, world=world, accumulate_steps=2, running={"log_every": 1})
        stop = StopAt(training, stop_step) if stop_step and world.rank == 1 else StopRequest()
        try:
            training.run(stop)
        except Interrupted:
            return EXIT_REQUEUE
        finally:
            stop_process_group()
        return 0

    assert run_ranks(lambda _: rank(tmp_path / "whole"), tmp_path) == [0, 0]
    assert run_ranks(lambda _: rank(tmp_path / "part", stop_step=4), tmp_path) == [EXIT_REQUEUE, EXIT_REQUEUE]
    assert run_ranks(lambda _: rank(tmp_path / "part"), tmp_path) == [0, 0]
    whole, part = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("whole", "part"))
    del whole["elapsed_seconds"], part["elapsed_seconds"]
    assert equal_bits(whole, part)
