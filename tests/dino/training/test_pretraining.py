from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.config import fingerprint
from dino.errors import DivergenceError, Interrupted, UserError
from dino.running.checkpoint import read_checkpoint
from dino.running.journal import read
from dino.running.signals import StopRequest
from tests.dino.training.tiny import STEPS_PER_EPOCH, equal_bits, tiny_config, tiny_training, train, weights

TIMES = {"images_per_second", "peak_memory_mib"}


def journal_without_times(run_dir: Path) -> list[tuple[int, float, dict[str, float]]]:
    return [
        (r.step, r.epoch, {name: value for name, value in r.metrics.items() if name not in TIMES})
        for r in read(run_dir)
    ]


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


class StopAt(StopRequest):
    """Asks to stop when the run has made so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.training = step, None

    def __bool__(self) -> bool:
        self.name = "SIGTERM"
        return self.training.step >= self.step  # type: ignore[attr-defined]


def stop_at(config: Any, run_dir: Path, step: int, **options: Any) -> None:
    training = tiny_training(config, run_dir, **options)
    stop = StopAt(step)
    stop.training = training  # type: ignore[assignment]
    with pytest.raises(Interrupted, match=f"after step {step}"):
        training.run(stop)


def test_a_run_writes_a_complete_final_checkpoint_journal_and_status(tmp_path: Path) -> None:
    config = tiny_config()
    training = train(config, tmp_path)
    state = read_checkpoint(tmp_path / "checkpoint.pth")
    assert set(state) >= {
        *(
            "format",
            "version",
            "student",
            "teacher",
            "optimizer",
            "scaler",
            "objective",
            "teacher_state",
            "rng",
            "step",
        ),
        *("epoch", "offset", "steps_per_epoch", "world_size", "fingerprint", "run_id", "config", "data_digest"),
        *("mlflow_run_id", "elapsed_seconds"),
    }
    assert (state["step"], state["epoch"], state["offset"]) == (12, 3, 0)
    assert state["fingerprint"] == fingerprint(config)
    assert all(name.startswith(("backbone.", "head.")) for name in (*state["student"], *state["teacher"]))
    assert equal_bits(
        {name: state["teacher"][name] for name in weights(training.work.step_once.teacher)},
        weights(training.work.step_once.teacher),
    )
    assert state["objective"]["center"].shape == (1, 32)
    records = read(tmp_path)
    assert [record.step for record in records] == [3, 6, 9, 12]
    assert records[1].epoch == 1.5
    assert set(records[0].metrics) == {
        *("loss", "lr", "weight_decay", "teacher_momentum", "teacher_temp", "grad_norm"),
        *("teacher_entropy", "kl", "output_std"),
        *TIMES,
    }
    assert records[1].metrics["lr"] == training.work.schedules.lr[5]
    assert (status(tmp_path)["status"], status(tmp_path)["step"], status(tmp_path)["collapse"]) == (
        "finished",
        12,
        None,
    )


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (1, {}),
        (4, {"teacher": "previous_iteration"}),
        (5, {"teacher": "previous_epoch", "accumulate_steps": 2}),
        (7, {"precision": "bf16"}),
        (11, {"teacher": "student_copy", "precision": "fp16"}),
        (6, {"epochs": 2.5, "head_bn": True}),
    ],
)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, step: int, changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    train(config, tmp_path / "whole")
    stop_at(config, tmp_path / "parts", step)
    assert status(tmp_path / "parts")["status"] == "interrupted"
    torch.manual_seed(99)  # nothing of this process may matter
    train(config, tmp_path / "parts")
    whole, parts = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("whole", "parts"))
    del whole["elapsed_seconds"], parts["elapsed_seconds"]
    assert equal_bits(whole, parts)
    assert repr(journal_without_times(tmp_path / "whole")) == repr(journal_without_times(tmp_path / "parts"))


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bit(tmp_path: Path) -> None:
    config = tiny_config()
    train(config, tmp_path / "whole")
    stop_at(config, tmp_path / "parts", 5)
    stop_at(config, tmp_path / "parts", 9)
    newest = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    training = tiny_training(config, tmp_path / "parts")
    assert training.resume()
    assert training.step < 9
    train(config, tmp_path / "parts")
    whole, parts = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("whole", "parts"))
    assert equal_bits(whole["teacher"], parts["teacher"])
    assert repr(journal_without_times(tmp_path / "whole")) == repr(journal_without_times(tmp_path / "parts"))


def test_a_nan_stops_with_step_and_causes_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(DivergenceError) as caught:
        train(
            config, tmp_path, poison=5, log_every=100
        )  # no logged point before: the checkpoint's own check must see it
    assert str(caught.value).startswith("step 5: the loss is nan")
    partials = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert partials == ["step-00000004.pth"]
    assert all(
        torch.isfinite(value).all()
        for value in read_checkpoint(tmp_path / "checkpoints" / partials[0])["student"].values()
    )
    assert str(tmp_path / "checkpoints" / partials[0]) in str(caught.value)
    assert not (tmp_path / "checkpoint.pth").exists()
    assert status(tmp_path)["status"] == "failed"
    assert "step 5" in status(tmp_path)["message"]


def test_a_weight_that_goes_bad_without_a_bad_loss_is_not_saved(tmp_path: Path) -> None:
    training = tiny_training(tiny_config(), tmp_path)
    after = training.work.step_once.teacher_rule.after_step

    def break_a_weight(**arguments: Any) -> None:
        after(**arguments)
        if training.step == 3:  # the last step before the first epoch's checkpoint
            with torch.no_grad():
                training.work.step_once.student.backbone.pos_embed[0, 0, 0] = float("inf")

    training.work.step_once.teacher_rule.after_step = break_a_weight  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="weight of the student"):
        training.run(StopRequest())
    assert not list(tmp_path.glob("checkpoints/*"))


def test_no_epochs_write_the_initial_weights(tmp_path: Path) -> None:
    train(tiny_config(epochs=0, warmup_epochs=0), tmp_path / "random")
    random = read_checkpoint(tmp_path / "random" / "checkpoint.pth")
    assert random["step"] == 0
    trained = tiny_training(tiny_config(), tmp_path / "trained")
    assert equal_bits(
        weights(trained.work.step_once.student),
        {n: random["student"][n] for n in weights(trained.work.step_once.student)},
    )
    other = tiny_training(tiny_config(seed=1), tmp_path / "other")
    assert not equal_bits(weights(other.work.step_once.student), weights(trained.work.step_once.student))


def test_another_configuration_in_the_directory_is_refused(tmp_path: Path) -> None:
    stop_at(tiny_config(), tmp_path, 2)
    with pytest.raises(UserError) as caught:
        train(tiny_config(seed=1), tmp_path)
    assert fingerprint(tiny_config()) in str(caught.value)
    assert fingerprint(tiny_config(seed=1)) in str(caught.value)


def test_a_damaged_file_of_the_mirror_does_not_stop_training(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"{", b"[]", b"\xff", b'{"run_id": "abc"}')):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        (run_dir / "mlflow.json").write_bytes(content)
        train(tiny_config(epochs=0, warmup_epochs=0), run_dir)
        expected = "abc" if b"abc" in content else None
        assert read_checkpoint(run_dir / "checkpoint.pth")["mlflow_run_id"] == expected


def test_other_data_are_refused(tmp_path: Path) -> None:
    stop_at(tiny_config(), tmp_path, 2)
    training = tiny_training(tiny_config(), tmp_path)
    training.work.identity = dataclasses.replace(training.work.identity, data_digest="other")
    with pytest.raises(UserError, match=r"tiny.*other"):
        training.run(StopRequest())


def test_checkpoints_at_epoch_ends_keep_the_last_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino.running.resumable.CHECKPOINT_SHARE", 1e9)  # every epoch, however short
    seen: list[list[str]] = []
    training = tiny_training(tiny_config(epochs=4), tmp_path)
    save = training.work.checkpoints.save

    def save_and_list(state: dict[str, Any]) -> Path:
        path = save(state)
        seen.append(sorted(path.name for path in (tmp_path / "checkpoints").iterdir()))
        return path

    training.work.checkpoints.save = save_and_list  # type: ignore[method-assign]
    training.run(StopRequest())
    steps = [[int(name[5:13]) for name in names] for names in seen]
    assert steps == [[4], [4, 8], [8, 12], [12, 16]]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000016.pth"]


def test_collapse_is_warned_of_and_named_in_the_status_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dino"), "propagate", True)
    # Everything is the same to a network whose teacher is as flat as it can be and whose student copies it.
    training = tiny_training(
        tiny_config(student_temp=1e4, teacher_temp=1e4, warmup_teacher_temp=None), tmp_path, log_every=1
    )
    training.run(StopRequest())
    assert status(tmp_path)["status"] == "finished"
    assert (status(tmp_path)["collapse"], status(tmp_path)["collapse_step"]) == ("uniform", 3)
    assert "collapse to the uniform output" in caplog.text


def test_another_number_of_threads_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dino"), "propagate", True)
    stop_at(tiny_config(), tmp_path, 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert tiny_training(tiny_config(), tmp_path).resume()
    assert "77 threads" in caplog.text


def test_time_spent_adds_up_over_restarts(tmp_path: Path) -> None:
    stop_at(tiny_config(), tmp_path, STEPS_PER_EPOCH)
    (partial,) = (tmp_path / "checkpoints").iterdir()
    before = read_checkpoint(partial)["elapsed_seconds"]
    train(tiny_config(), tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pth")["elapsed_seconds"] > before > 0
