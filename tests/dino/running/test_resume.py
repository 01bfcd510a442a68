"""Real processes: killed outright, stopped by signals, and several ranks."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from dino.config import RunConfig
from dino.errors import EXIT_REQUEUE, Interrupted
from dino.running.checkpoint import read_checkpoint
from dino.running.distributed import find_world, start_process_group, stop_process_group
from dino.running.journal import read
from dino.running.signals import Agreement, StopRequest
from tests.dino.running.processes import can_fork, exit_status, fork, run_ranks
from tests.dino.training.test_pretraining import journal_without_times
from tests.dino.training.tiny import CPU, equal_bits, tiny_config, tiny_training, train

pytestmark = can_fork


def same_results(a: Path, b: Path) -> bool:
    states = [read_checkpoint(folder / "checkpoint.pth") for folder in (a, b)]
    for state in states:
        del state["elapsed_seconds"]
    return equal_bits(*states) and repr(journal_without_times(a)) == repr(journal_without_times(b))


def train_until_stopped(config: RunConfig, run_dir: Path) -> int:
    with StopRequest() as stop:
        try:
            tiny_training(config, run_dir, log_every=1, checkpoint_minutes=0.0005).run(stop)
        except Interrupted:
            return EXIT_REQUEUE
    return 0


def wait_for_step(run_dir: Path, step: int, pid: int) -> None:
    """Return when the journal has ``step`` (or the child is gone)."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        records = read(run_dir)
        if records and records[-1].step >= step:
            return
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.002)
    raise AssertionError(f"no step {step} within a minute")


def test_killed_at_random_moments_the_weights_and_the_journal_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    config = tiny_config(epochs=6)
    train(config, tmp_path / "whole", log_every=1)
    chance, kills = random.Random(3), 0
    for step in sorted(chance.sample(range(1, 22), 4)):
        pid = fork(lambda: train_until_stopped(config, tmp_path / "parts"), tmp_path / "error.txt")
        wait_for_step(tmp_path / "parts", step, pid)
        time.sleep(chance.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        kills += exit_status(pid) == -signal.SIGKILL
    assert kills == 4
    train(config, tmp_path / "parts", log_every=1)
    assert same_results(tmp_path / "whole", tmp_path / "parts")
    assert [path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()] == ["step-00000024.pth"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_at_the_next_step_and_ends_with_the_requeue_status(tmp_path: Path, number: int) -> None:
    config = tiny_config(epochs=8)
    train(config, tmp_path / "whole", log_every=1)
    pid = fork(lambda: train_until_stopped(config, tmp_path / "parts"), tmp_path / "error.txt")
    wait_for_step(tmp_path / "parts", 7, pid)
    os.kill(pid, number)
    assert exit_status(pid) == EXIT_REQUEUE
    newest = max((tmp_path / "parts" / "checkpoints").glob("step-*.pth"))
    assert read_checkpoint(newest)["step"] == read(tmp_path / "parts")[-1].step
    assert train_until_stopped(config, tmp_path / "parts") == 0
    assert same_results(tmp_path / "whole", tmp_path / "parts")


def train_rank(config: RunConfig, run_dir: Path, *, stop_rank: int | None = None, stop_step: int = 0) -> int:
    """Train as one of several ranks; rank ``stop_rank`` gets SIGTERM when it has made ``stop_step`` steps."""
    torch.set_num_threads(1)
    world = find_world()
    start_process_group(world, CPU)
    try:
        with StopRequest() as stop:
            training = tiny_training(config, run_dir, world=world, log_every=1)
            if world.rank == stop_rank:
                add = training.work.losses.add

                def add_and_signal(loss: torch.Tensor) -> None:
                    add(loss)
                    if training.step + 1 == stop_step:
                        os.kill(os.getpid(), signal.SIGTERM)

                training.work.losses.add = add_and_signal  # type: ignore[method-assign]
            try:
                training.run(stop)
            except Interrupted:
                return EXIT_REQUEUE
        return 0
    finally:
        stop_process_group()


@pytest.mark.parametrize("changes", [{}, {"accumulate_steps": 2}, {"head_bn": True}])
def test_two_ranks_equal_one_process_on_the_same_global_batch(tmp_path: Path, changes: dict[str, int]) -> None:
    config = tiny_config(drop_path_rate=0.0, epochs=2, base_lr=0.01, **changes)
    statuses = run_ranks(lambda rank: train_rank(config, tmp_path / "two"), tmp_path)
    assert statuses == [0, 0]
    # Batch norm sees what one forward sees on all ranks: with accumulation that would be a part of the batch.
    train(config, tmp_path / "one", log_every=1)
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("one", "two"))
    assert two["world_size"] == 2
    assert len(two["rng"]["torch"]) == 2
    torch.testing.assert_close(two["objective"]["center"], one["objective"]["center"], rtol=1e-3, atol=1e-5)
    for name, value in one["teacher"].items():
        torch.testing.assert_close(two["teacher"][name], value, rtol=1e-2, atol=1e-4, msg=name)
    for a, b in zip(read(tmp_path / "one"), read(tmp_path / "two"), strict=True):
        assert b.metrics["loss"] == pytest.approx(a.metrics["loss"], rel=1e-3)
        assert b.metrics["grad_norm"] == pytest.approx(a.metrics["grad_norm"], rel=2e-2)


def test_a_signal_to_one_rank_stops_all_at_the_same_step_and_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = tiny_config()
    run_ranks(lambda rank: train_rank(config, tmp_path / "whole"), tmp_path)
    statuses = run_ranks(lambda rank: train_rank(config, tmp_path / "parts", stop_rank=1, stop_step=5), tmp_path)
    assert statuses == [EXIT_REQUEUE, EXIT_REQUEUE]
    stopped = read(tmp_path / "parts")[-1].step
    assert 5 <= stopped < 12
    assert run_ranks(lambda rank: train_rank(config, tmp_path / "parts"), tmp_path) == [0, 0]
    assert same_results(tmp_path / "whole", tmp_path / "parts")


def test_ranks_draw_different_stochastic_depth(tmp_path: Path) -> None:
    run_ranks(lambda rank: train_rank(tiny_config(epochs=0.25, warmup_epochs=0), tmp_path / "run"), tmp_path)
    first, second = read_checkpoint(tmp_path / "run" / "checkpoint.pth")["rng"]["torch"]
    assert not torch.equal(first, second)


def test_another_number_of_ranks_goes_on_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config()
    run_ranks(lambda rank: train_rank(config, tmp_path / "run", stop_rank=0, stop_step=4), tmp_path)
    import logging

    logging.getLogger("dino").propagate = True
    train(config, tmp_path / "run", log_every=1)
    assert "1 ranks instead of 2" in caplog.text
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pth")["step"] == 12


def test_ranks_exchange_wishes_seldom_but_decide_alike(tmp_path: Path) -> None:
    def body(rank: int) -> None:
        start_process_group(find_world(), CPU)
        agreement, answers, exchanges = Agreement(), [], 0
        for step in range(60):
            before = agreement._next_step
            wishes = {"stop": rank == 1 and step >= 25, "save": rank == 0 and step == 30}
            answers.append(agreement.decide(step, **wishes, steps_per_second=10.0 if rank == 0 else 1e6))
            exchanges += agreement._next_step != before
        torch.save({"answers": answers, "exchanges": exchanges}, tmp_path / f"{rank}.pt")
        stop_process_group()

    run_ranks(body, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    assert first["exchanges"] == 6
    assert [step for step, (stop, _) in enumerate(first["answers"]) if stop] == [30, 40, 50]
    assert [step for step, (_, save) in enumerate(first["answers"]) if save] == [30]
