"""Running what takes long: from its newest checkpoint, step by step, to its end or to where it is asked to stop.

`Resumable` is what is run: a pretraining, a training with labels, linear probes. It knows what a step is, what its
state is and what there is to say of it. `Runner` is how it is run: epochs, logged points, checkpoints, and every way
that a run can end.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from dino.errors import Interrupted, UserError
from dino.log import logger
from dino.metrics import peak_device_memory_mib, peak_memory_mib
from dino.running.checkpoint import CheckpointFile, CheckpointFolder, RunIdentity
from dino.running.distributed import World, wait_for_all
from dino.running.journal import Journal
from dino.running.progress import Progress, StatusFile
from dino.running.random_state import derive_seed, random_states, restore_random_states
from dino.running.signals import Agreement, StopRequest

CHECKPOINT_SHARE = 0.05
"""At epoch ends at most this share of the time goes into writing checkpoints: short epochs would write all the time."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where and how something is run; nothing here changes its result."""

    run_dir: Path | None
    """Where its journal and ``status.json`` are kept; None keeps neither."""
    device: torch.device
    world: World = field(default_factory=World)
    """This process among the ranks."""
    checkpoint_minutes: float = 30.0
    checkpoint_every_epochs: int = 1
    log_every: int | None = None
    """Steps between logged points; None chooses (`log_interval`)."""
    progress: bool = True


def log_interval(total_steps: int) -> int:
    """Steps between logged points: about 300 points for a short run, one each 100 steps for a long one."""
    return min(max(1, total_steps // 300), 100)


class Batches(Protocol):
    """Where the images of a run come from."""

    def iterate(self, epoch: int, start: int) -> Iterator[Any]:
        """The micro-batches of an epoch from the ``start``-th on."""


class Resumable(ABC):
    """What is run. Its methods get the steps made so far; it keeps no count of its own."""

    running: Running
    identity: RunIdentity
    checkpoints: CheckpointFolder | CheckpointFile
    loader: Batches | None
    """None where there are no steps to make."""
    total_steps: int
    steps_per_epoch: int
    accumulate_steps: int = 1
    """Micro-batches of a step."""
    batch_size: int
    """Images of a step, over all ranks."""
    log_every: int
    seed: int

    @abstractmethod
    def take_step(self, step: int, batches: Iterator[Any], *, logs: bool) -> None:
        """Make step ``step``, counted from 0, without waiting for the device; `log` follows where ``logs``."""

    @abstractmethod
    def log(self, step: int) -> dict[str, float]:
        """What is journalled after ``step`` steps, ``loss`` among it; waits for the device.

        Raises:
            DivergenceError: The loss is not finite.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for what `Runner.capture` knows."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""

    def start(self, step: int) -> None:  # noqa: B027 - most have nothing to do
        """Called on rank 0 before the first step that this process makes."""

    def after_step(self, step: int) -> None:  # noqa: B027
        """Called on rank 0 after a step and its logged point, and before a checkpoint of it."""

    def check_finite(self, step: int) -> None:  # noqa: B027
        """Called before a checkpoint is written, which must be good.

        Raises:
            DivergenceError: A loss or a weight is not finite.
        """

    def collapse(self) -> tuple[str | None, int | None]:
        """The kind of collapse that the run is in, and since which step."""
        return None, None


T = TypeVar("T", bound=Resumable)


class Runner(Generic[T]):
    """Runs ``work``, which was built as it is before its first step."""

    def __init__(self, work: T) -> None:
        self.work = work
        self.step = 0
        """Steps made."""
        self._running, self._world = work.running, work.running.world
        self._status = StatusFile(work.running.run_dir if self._world.is_main else None)
        self._agreement = Agreement()
        self._began = self._logged_at = self._saved_at = time.monotonic()
        self._earlier_seconds = self._write_seconds = 0.0
        self._logged_step = self._saved_step = 0

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> None:
        """Go on to the end, from the newest checkpoint if there is one, and write the final one.

        Raises:
            Interrupted: ``stop`` was requested; the state has been saved.
            DivergenceError: A loss or a weight is not finite; the last good checkpoint stays.
            UserError: The checkpoint is of another configuration or other data, or the folder cannot be written.
        """
        self.resume()
        journal = Journal(self._running.run_dir) if self._running.run_dir and self._world.is_main else None
        try:
            with stop.at_steps():
                self._run(journal, stop)
        except Interrupted as interruption:
            self._write_status("interrupted", str(interruption))
            raise
        except BaseException as error:
            self._write_status("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if journal:
                journal.close()

    def _run(self, journal: Journal | None, stop: StopRequest) -> None:
        if journal:
            journal.truncate(self.step)
        if self._world.is_main:
            self.work.start(self.step)
        self._write_status("running")
        self._make_steps(journal, stop)
        self._save(journal, final=True)
        self._write_status("finished")

    def _make_steps(self, journal: Journal | None, stop: StopRequest) -> None:
        work, total, per_epoch = self.work, self.work.total_steps, self.work.steps_per_epoch
        show = self._running.progress and self._world.is_main
        with Progress(work.identity.run_id, total=total, start=self.step, enabled=show) as progress:
            self._pause_if_asked(journal, stop)
            while self.step < total:
                epoch, within = divmod(self.step, per_epoch)
                assert work.loader is not None
                batches = iter(work.loader.iterate(epoch, within * work.accumulate_steps))
                for _ in range(min(per_epoch - within, total - self.step)):
                    logs = (self.step + 1) % work.log_every == 0 or self.step + 1 == total
                    work.take_step(self.step, batches, logs=logs)
                    self.step += 1
                    if logs:
                        progress.show_loss(self._log(journal))
                    if self._world.is_main:
                        work.after_step(self.step)
                    progress.advance(self.step)
                    self._pause_if_asked(journal, stop)

    def _log(self, journal: Journal | None) -> float:
        """A logged point; waits for the device. Returns the loss."""
        metrics = self.work.log(self.step)
        now = time.monotonic()
        done = self.step - self._logged_step
        metrics["images_per_second"] = self.work.batch_size * done / (now - self._logged_at)
        metrics["peak_memory_mib"] = peak_device_memory_mib(str(self._running.device)) or peak_memory_mib()
        self._logged_at, self._logged_step = now, self.step
        if journal:
            journal.log(self.step, self.step / self.work.steps_per_epoch, metrics)
        self._write_status("running", at_least_seconds_apart=5.0)
        return metrics["loss"]

    def seconds(self) -> float:
        """Time spent on the run so far, over all its processes."""
        return self._earlier_seconds + time.monotonic() - self._began

    # --- state --------------------------------------------------------------------------------------------------------

    def _pause_if_asked(self, journal: Journal | None, stop: StopRequest) -> None:
        """At a step boundary: save if it is time, stop if asked; all ranks alike."""
        now, total = time.monotonic(), self.work.total_steps
        epoch_ends = self.step % (self.work.steps_per_epoch * self._running.checkpoint_every_epochs) == 0
        due = now - self._saved_at >= 60.0 * self._running.checkpoint_minutes
        due |= epoch_ends and self._write_seconds <= CHECKPOINT_SHARE * (now - self._saved_at)
        done = self.step - self._logged_step
        stopping, saving = self._agreement.decide(
            self.step,
            stop=bool(stop),
            save=due and self.step < total,  # the end writes its own
            steps_per_second=done / (now - self._logged_at) if done else 1.0,
            at_once=epoch_ends or self.step == total,
        )
        if (saving or stopping) and self.step > self._saved_step:
            self._save(journal)
        if stopping and self.step < total:
            raise Interrupted(
                f"{self.work.identity.run_id}: stopped by {stop.name or 'a signal to another rank'} after step "
                f"{self.step} of {total}, state saved; run the same command again to go on"
            )

    def _save(self, journal: Journal | None, *, final: bool = False) -> None:
        self.work.check_finite(self.step)
        started = time.monotonic()
        state = self.capture()
        if journal:
            journal.sync()
        if self._world.is_main:
            write = self.work.checkpoints.finish if final else self.work.checkpoints.save
            write(state)
        wait_for_all()  # no rank may exit while rank 0 still writes
        self._saved_at, self._saved_step = time.monotonic(), self.step
        self._write_seconds = self._saved_at - started

    def capture(self) -> dict[str, Any]:
        """A checkpoint's dict (the keys: docs/architecture.md); call at a step boundary, on all ranks."""
        epoch, within = divmod(self.step, self.work.steps_per_epoch)
        return {
            **self.work.state_dict(),
            **asdict(self.work.identity),
            "rng": random_states(self._running.device),
            "step": self.step,
            "epoch": epoch,
            "offset": within * self.work.accumulate_steps,
            "steps_per_epoch": self.work.steps_per_epoch,
            "world_size": self._world.world_size,
            "threads": torch.get_num_threads(),
            "elapsed_seconds": self.seconds(),
        }

    def resume(self) -> bool:
        """Continue from the newest checkpoint that loads; False where there is none.

        At the same number of ranks and threads on a CPU, what follows is bit for bit what would have followed; where it
        cannot be, a warning says so.

        Raises:
            UserError: It belongs to another configuration or to other data.
        """
        state = self.work.checkpoints.newest()
        if state is None:
            return False
        self._check_data(state)
        self.work.load_state_dict(state)
        self.step = self._saved_step = self._logged_step = state["step"]
        self._earlier_seconds = state["elapsed_seconds"]
        changed = self._restore_random_states(state)
        if self._running.device.type == "cpu" and state["threads"] != torch.get_num_threads():
            changed.append(f"{torch.get_num_threads()} threads instead of {state['threads']}")
        if self._world.is_main:
            if changed:
                what = ", ".join(changed)
                logger.warning("going on with %s: a valid run, but not bit for bit what it would have been", what)
            name, total = self.work.identity.run_id, self.work.total_steps
            logger.info("resuming %s after step %d of %d", name, self.step, total)
        return True

    def _restore_random_states(self, state: dict[str, Any]) -> list[str]:
        """Put them back, or draw anew; what has changed since then."""
        if "rng" not in state or restore_random_states(state["rng"], self._world, self._running.device):
            return []  # states of linear probes once had none, which need none
        torch.manual_seed(derive_seed(self.work.seed, f"training from step {self.step}", self._world.rank))
        if state["world_size"] != self._world.world_size:
            return [f"{self._world.world_size} ranks instead of {state['world_size']}"]
        return ["another kind of device"]

    def _check_data(self, state: dict[str, Any]) -> None:
        where, digest, steps = self._running.run_dir, self.work.identity.data_digest, self.work.steps_per_epoch
        if state.get("data_digest") != digest:
            raise UserError(
                f"{where}: was trained on data with digest {state['data_digest']}, not {digest}: the data set has "
                "changed; give it the old one, or choose another --run-dir"
            )
        if state.get("steps_per_epoch", steps) != steps:
            raise UserError(
                f"{where}: its epochs had {state['steps_per_epoch']} steps and now have {steps}; run it with "
                f"{state['world_size']} ranks, as before"
            )

    def _write_status(self, status: str, message: str = "", *, at_least_seconds_apart: float = 0.0) -> None:
        self._status.write(
            status,
            step=self.step,
            seconds=self.seconds(),
            message=message,
            collapse=self.work.collapse(),
            at_least_seconds_apart=at_least_seconds_apart,
        )
