"""What every test shares: one thread, no tracking server, and the small real data where it is there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side; more threads than cores only slow each other down. Subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("MLFLOW_TRACKING_URI", None)
# A shell's background jobs ignore Ctrl-C, and so would what the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> Iterator[None]:
    """Commands that train set this process to take subnormal numbers for 0; hypothesis refuses to draw floats then."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of small real data sets; a test that asks for it skips where the folder is absent."""
    folder = Path(os.environ.get("DINO_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no small real data at {folder} (set DINO_REFERENCE_DATA)")
    return folder


@pytest.fixture(scope="session")
def authors_code() -> Path:
    """A checkout of facebookresearch/dino, named by DINO_AUTHORS_CODE; skips where there is none."""
    folder = os.environ.get("DINO_AUTHORS_CODE")
    if not folder:
        pytest.skip("no checkout of the authors' code (set DINO_AUTHORS_CODE)")
    return Path(folder)
