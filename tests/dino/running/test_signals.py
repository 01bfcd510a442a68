from __future__ import annotations

import os
import signal
import time

import pytest

from dino.errors import Interrupted
from dino.running.signals import STOP_SIGNALS, StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_what_has_nothing_to_lose_at_once(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {signal.Signals(number).name}, nothing is lost"), StopRequest():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except Exception:  # what expects damaged images, say
            raise AssertionError("taken for an error") from None
    assert signal.getsignal(number) is before


def test_a_signal_between_steps_is_remembered() -> None:
    with StopRequest() as stop:
        with stop.at_steps():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert stop
        with pytest.raises(Interrupted):
            stop.check()


def test_several_ranks_stop_at_a_step_that_they_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert stop.name == "SIGTERM"
