"""A folder in DAVIS 2017's layout, and the golden values' maker."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
import torch

from dino.evaluation.davis.masks import write_mask

GOLDEN = Path(__file__).resolve().parents[3] / "golden"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """`tests/golden/make_davis.py`, for its cases, weights and videos."""
    spec = importlib.util.spec_from_file_location("make_davis", GOLDEN / "make_davis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What the authors' code gave."""
    return json.loads((GOLDEN / "davis.json").read_text(encoding="utf-8"))


@pytest.fixture
def davis_folder(tmp_path: Path, maker: ModuleType) -> Path:
    """Two sequences of five frames: ``alpha`` with two objects, 64x96, and ``beta`` with one, 96x64."""
    for seed, (name, size, objects) in enumerate((("alpha", (64, 96), 2), ("beta", (96, 64), 1))):
        images, masks = maker.video(size, 5, objects, seed=seed)
        frames = tmp_path / "davis" / "JPEGImages" / "480p" / name
        frames.mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            cv2.imwrite(str(frames / f"{number:05d}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            write_mask(tmp_path / "davis" / "Annotations" / "480p" / name / f"{number:05d}.png", mask)
    lists = tmp_path / "davis" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("alpha\nbeta\n")
    (lists / "train.txt").write_text("beta\n")
    return tmp_path / "davis"
