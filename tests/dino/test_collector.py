"""The collector and what is imported: it is not searched, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import atexit, gc, sys, weakref

def at_the_end():
    assert gc.get_freeze_count() > 100_000
    print("frozen")

class Ring:
    pass

full = []
gc.callbacks.append(lambda phase, about: full.append(phase) if about["generation"] == 2 else None)
atexit.register(at_the_end)  # handlers run last to first
from dino.collector import spare_modules
spare_modules()
import timm.models.vision_transformer
assert full == [], "a full collection during the imports"
ring = Ring()
ring.itself, gone = ring, weakref.ref(ring)
del ring
rest = [[] for _ in range(1000)]
assert gone() is None, "young garbage is left"
"""


def test_modules_are_not_searched_and_young_garbage_is_collected() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (run.stderr, run.stdout) == ("", "frozen\n")
