from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dino.cli import main
from dino.evaluation.linear import training as module
from dino.evaluation.linear.probes import ProbeBank
from dino.running.resumable import Runner
from dino.running.signals import StopRequest
from tests.dino.running.processes import can_fork, exit_status, fork
from tests.dino.training.supervised.labelled import write_images

PARTIAL = ".o.partial.pth"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data")


def linear(data: Path, output: Path, *more: str) -> int:
    command = [
        *("linear", "--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "4", "--data", str(data)),
        *("--output", str(output), "--epochs", "3", "--batch-size", "8", "--micro-batch", "5", "--image-size", "16"),
        *("--lrs", "0.03", "0.3", "--device", "cpu", "--threads", "1", "--quiet"),
    ]
    return main([*command, *more])


def results(output: Path) -> dict[str, Any]:
    """What a metrics file says but for the time and memory that it took."""
    document = json.loads(output.read_text())
    return {name: document[name] for name in ("metrics", "settings", "notes", "data", "fingerprint")}


class Killed(BaseException):
    """As sudden as a kill: nothing that the code could do follows."""


def keep_weights(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Takes up the weights of every finished training."""
    kept: list[torch.Tensor] = []
    run = Runner.run

    def spy(runner: Runner[module.ProbeTraining], stop: StopRequest) -> None:
        run(runner, stop)
        kept.extend(weight.clone() for weight in runner.work.bank.weights)

    monkeypatch.setattr(Runner, "run", spy)
    return kept


@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_killed_anywhere_it_ends_with_the_same_bits(
    step: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep_weights(monkeypatch)
    assert linear(data, tmp_path / "whole.json") == 0
    monkeypatch.setattr(module, "CHECKPOINT_MINUTES", 0.0)  # a state after each step
    original, done = ProbeBank.step, [0]

    def counting(bank: ProbeBank, *arguments: Any, **options: Any) -> torch.Tensor:
        if done[0] == step:
            raise Killed
        done[0] += 1
        return original(bank, *arguments, **options)

    monkeypatch.setattr(ProbeBank, "step", counting)
    with pytest.raises(Killed):
        linear(data, tmp_path / "o.json")
    assert (tmp_path / PARTIAL).exists()
    done[0] = -9  # too far from `step` to be killed again
    assert linear(data, tmp_path / "o.json") == 0
    assert done[0] == -step, "it did not go on where it was: three epochs are nine steps"
    assert not (tmp_path / PARTIAL).exists()
    assert results(tmp_path / "o.json") == results(tmp_path / "whole.json")
    whole, resumed = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed, whole, strict=True))


@can_fork
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_and_says_run_me_again(
    number: signal.Signals, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, done = ProbeBank.step, [0]

    def signalling(bank: ProbeBank, *arguments: Any, **options: Any) -> torch.Tensor:
        done[0] += 1
        if done[0] == 2:
            os.kill(os.getpid(), number)
        return original(bank, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ProbeBank, "step", signalling)
        child = fork(lambda: linear(data, tmp_path / "o.json"), tmp_path / "error.txt")
        assert exit_status(child) == 75
    assert not (tmp_path / "error.txt").exists()
    assert not (tmp_path / "o.json").exists()
    assert torch.load(tmp_path / PARTIAL, weights_only=True)["step"] == 2
    assert linear(data, tmp_path / "o.json") == 0
    assert linear(data, tmp_path / "whole.json") == 0
    assert results(tmp_path / "o.json") == results(tmp_path / "whole.json")


@pytest.mark.parametrize("spoil", ["other settings", "damaged"])
def test_a_state_that_does_not_fit_is_not_taken_up(spoil: str, data: Path, tmp_path: Path) -> None:
    assert linear(data, tmp_path / "whole.json") == 0
    assert linear(data, tmp_path / "o.json") == 0
    if spoil == "damaged":
        (tmp_path / PARTIAL).write_bytes(b"half a file")
    else:
        state = {"format": "dino-checkpoint", "version": 1, "fingerprint": "another", "step": 5, "scores": []}
        torch.save(state, tmp_path / PARTIAL)
    assert linear(data, tmp_path / "o.json") == 0
    assert results(tmp_path / "o.json") == results(tmp_path / "whole.json")
    assert not (tmp_path / PARTIAL).exists()


def test_a_state_that_once_was_saved_before_the_end_of_its_epoch_is_taken_up(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert linear(data, tmp_path / "whole.json") == 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "CHECKPOINT_MINUTES", 0.0)
        patch.setattr(module.ProbeTraining, "log", lambda training, step: {"loss": 0.0})
        patch.setattr(module.ProbeTraining, "after_step", lambda training, step: kill_after(3, step))
        with pytest.raises(Killed):
            linear(data, tmp_path / "o.json")
    state = torch.load(tmp_path / PARTIAL, weights_only=True)
    once = ("format", "version", "fingerprint", "probes", "losses", "step", "scores", "threads", "elapsed_seconds")
    torch.save({name: state[name] for name in once}, tmp_path / PARTIAL)
    assert (state["step"], state["scores"]) == (3, [])
    assert linear(data, tmp_path / "o.json") == 0
    assert results(tmp_path / "o.json") == results(tmp_path / "whole.json")


def kill_after(last: int, step: int) -> None:
    if step > last:
        raise Killed
