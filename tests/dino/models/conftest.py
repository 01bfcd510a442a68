"""The golden values of the authors' networks and the generator that defines their weights and images."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """`tests/golden/make_backbone.py`, for its cases, weights and images."""
    spec = importlib.util.spec_from_file_location("make_backbone", GOLDEN / "make_backbone.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What the authors' code gave."""
    return json.loads((GOLDEN / "backbone.json").read_text(encoding="utf-8"))
