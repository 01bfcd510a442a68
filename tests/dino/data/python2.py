"""Pickles as Python 2 and its NumPy wrote them, which is how the publishers' files come."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any


class Python2(pickle._Pickler):
    """Writes text and bytes alike as Python 2's strings."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_string(self, value: bytes | str) -> None:
        value = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(value)) + value)  # type: ignore[attr-defined]

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(value: Any) -> bytes:
    """``value`` at protocol 2."""
    buffer = io.BytesIO()
    Python2(buffer, protocol=2).dump(value)
    return buffer.getvalue()
