"""Pickles of plain data, read without running anything of theirs.

The ground truths of Revisited Oxford and Paris and the batches of CIFAR come as pickles, and an ordinary unpickler
calls whatever a file names. This one makes dicts, lists, tuples, strings and numbers, for which a pickle names nothing,
and arrays of numbers or strings. What NumPy's pickles name (NumPy 1 and 2 differ in it) is replaced by stand-ins of
this module, so that not even NumPy's own functions are called with a file's arguments. Every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dino.errors import UserError

_ELEMENT = re.compile(r"[biuf][1248]|[US]\d{1,4}")


class RefusedName(Exception):
    """The pickle names something that is not allowed; the message is the name."""


def unpickle_plain(data: bytes, *, encoding: Literal["latin1", "bytes"]) -> Any:
    """The value that ``data`` holds; arrays in it are `PlainArray`.

    Args:
        data: A pickle.
        encoding: What strings of Python 2 become: text, or the bytes that they were.

    Raises:
        RefusedName: It names something other than plain data.
        Exception: It is damaged, which can fail anywhere in the reader.
    """
    return _PlainUnpickler(io.BytesIO(data), encoding=encoding).load()


def load_plain_pickle(path: str | Path) -> Any:
    """The value in a ground-truth file; arrays in it are `PlainArray`.

    Raises:
        UserError: The file is missing, no pickle, damaged, or names something other than plain data.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the ground-truth file of the data set") from None
    try:
        return unpickle_plain(data, encoding="latin1")
    except RefusedName as refused:
        raise UserError(
            f"{path} names '{refused}', which is never loaded because that could run code: a ground truth holds only "
            "dicts, lists, strings, numbers and arrays of them"
        ) from None
    except Exception as error:
        raise UserError(
            f"{path} is no readable pickle: it is truncated, damaged or another kind of file ({type(error).__name__})"
        ) from None


class PlainArray:
    """An array's shape and content, taken from a pickle's bytes."""

    __slots__ = ("_values",)

    def __init__(self, values: NDArray[Any] | None = None) -> None:
        self._values = values

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, element, by_columns, data = state
        self._values = element.decode(data).reshape(shape, order="F" if by_columns else "C")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array([] if self._values is None else self._values, dtype=dtype, copy=copy)

    def tolist(self) -> Any:
        """The content as lists of Python's own numbers or strings."""
        return np.asarray(self).tolist()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if stand_in is None:
            raise RefusedName(f"{module}.{name}")
        return stand_in


class _Element:
    """Stands in for an instance of ``numpy.dtype``: the type of an array's entries."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str | bytes) -> None:
        code = _text(code)
        if not _ELEMENT.fullmatch(code):
            raise RefusedName(f"numpy.dtype('{code}')")
        self._code, self._order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|"):
            raise ValueError("unknown byte order")
        self._order = order

    def decode(self, data: Any) -> NDArray[Any]:
        """The entries that ``data`` holds, in a row."""
        raw = data.encode("latin1") if isinstance(data, str) else bytes(memoryview(data))
        return np.frombuffer(raw, dtype=self._order + self._code)


def _text(word: str | bytes) -> str:
    """A word of NumPy's, which is bytes where Python 2's strings are read as bytes."""
    return word.decode("latin1") if isinstance(word, bytes) else word


# Instances of classes without attributes: a pickle can call them, and change nothing on them.
class _MakeElement:
    __slots__ = ()

    def __call__(self, code: str | bytes, *_flags: Any) -> _Element:
        return _Element(code)


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_arguments: Any) -> PlainArray:
        return PlainArray()


class _MakeArrayFromBuffer:
    __slots__ = ()

    def __call__(self, data: Any, element: _Element, shape: tuple[int, ...], order: str) -> PlainArray:
        return PlainArray(element.decode(data).reshape(shape, order="F" if order == "F" else "C"))


class _MakeScalar:
    __slots__ = ()

    def __call__(self, element: _Element, data: Any) -> Any:
        return element.decode(data)[0].item()


class _MakeBytes:
    """Stands in for ``_codecs.encode`` and for ``bytes`` without arguments, by which old pickles hold bytes."""

    __slots__ = ()

    def __call__(self, text: str = "", encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise RefusedName(f"_codecs.encode(..., '{encoding}')")
        return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _MakeElement(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy.core.multiarray", "scalar"): _MakeScalar(),
    ("numpy.core.numeric", "_frombuffer"): _MakeArrayFromBuffer(),
    ("_codecs", "encode"): _MakeBytes(),
    ("__builtin__", "bytes"): _MakeBytes(),
    ("builtins", "bytes"): _MakeBytes(),
}
