from __future__ import annotations

import argparse

import pytest
import torch

from dino.errors import UserError
from dino.running.distributed import World
from dino.running.options import check_numbers, choose_device


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", World()).type == "cpu"
    with pytest.raises(UserError, match="sees no GPU"):
        choose_device("cuda", World())


def test_numbers_that_make_no_sense_are_refused_by_name() -> None:
    check_numbers(argparse.Namespace(workers=0, checkpoint_minutes=0.0, log_every=None))
    with pytest.raises(UserError, match="--checkpoint-every-epochs must be at least 1, not 0"):
        check_numbers(argparse.Namespace(checkpoint_every_epochs=0))
