from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino.data.plain_pickle import PlainArray, RefusedName, load_plain_pickle, unpickle_plain
from dino.errors import UserError
from tests.dino.data.python2 import python2_pickle

PLAIN = {
    "imlist": ["a", "b"],
    "gnd": [{"easy": [0, 1], "bbx": [1.5, 2, 3e4, -1]}],
    "more": (None, True, 10**30, b"xyz"),
}


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, value: Any, *, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    assert load_plain_pickle(write(tmp_path / "x.pkl", PLAIN, protocol=protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(7),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1.5, -2.0], dtype=np.float32),
        np.array(["all_souls_1", "b"]),
        np.empty(0, dtype=np.int64),
        np.array([True, False]),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    read = load_plain_pickle(write(tmp_path / "x.pkl", {"easy": array, "one": array[:1]}, protocol=protocol))
    assert isinstance(read["easy"], PlainArray)
    assert read["easy"].tolist() == array.tolist()
    assert read["one"].tolist() == array[:1].tolist()


def test_strings_of_python_2_are_text_or_the_bytes_that_they_were() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = python2_pickle({"data": pixels, "names": ["cat", "dog"]})
    as_text, as_bytes = unpickle_plain(data, encoding="latin1"), unpickle_plain(data, encoding="bytes")
    assert as_text["names"] == ["cat", "dog"]
    assert as_bytes[b"names"] == [b"cat", b"dog"]
    np.testing.assert_array_equal(np.asarray(as_text["data"]), pixels)
    np.testing.assert_array_equal(np.asarray(as_bytes[b"data"], dtype=np.int64), pixels)


def test_names_are_refused_where_strings_are_bytes_too() -> None:
    with pytest.raises(RefusedName, match="system"):
        unpickle_plain(pickle.dumps({b"data": os.system}), encoding="bytes")
    objects = python2_pickle(np.array([{"a": 1}]))
    with pytest.raises(RefusedName, match=r"numpy\.dtype\('O8'\)"):
        unpickle_plain(objects, encoding="bytes")


def test_numpy_scalars_come_back_as_numbers(tmp_path: Path) -> None:
    read = load_plain_pickle(write(tmp_path / "x.pkl", [np.int64(5), np.float32(0.5)]))
    assert read == [5, 0.5]
    assert type(read[0]) is int


def test_both_names_of_numpys_module_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(np.arange(3), protocol=2)
    assert (b"numpy._core" in data) != (b"numpy.core" in data)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    for name, other in ((new, old), (old, new)):
        (tmp_path / "x.pkl").write_bytes(data.replace(other, name))
        assert load_plain_pickle(tmp_path / "x.pkl").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(os.system, "touch {proof}"), "posix.system"),
        (Calls(eval, "open('{proof}', 'w')"), "builtins.eval"),
        (Calls(getattr, "x", "upper"), "builtins.getattr"),
        (Calls(np.load, "x.npy", None, True), "numpy.load"),
        (Path("x"), "pathlib.PosixPath"),
        (np.array([{"a": 1}]), "numpy.dtype('O8')"),
        (Calls(__import__("codecs").encode, "abc", "rot13"), "_codecs.encode(..., 'rot13')"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_everything_else_is_refused_by_name_and_not_run(tmp_path: Path, value: Any, name: str, protocol: int) -> None:
    proof = tmp_path / "proof"
    if isinstance(value, Calls):
        value = Calls(value.call[0], *(str(each).replace("{proof}", str(proof)) for each in value.call[1]))
    path = write(tmp_path / "x.pkl", {"imlist": ["a"], "gnd": value}, protocol=protocol)
    with pytest.raises(UserError, match="never loaded because that could run code") as error:
        load_plain_pickle(path)
    assert name.removeprefix("builtins.") in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not proof.exists()


def test_stand_ins_cannot_be_changed(tmp_path: Path) -> None:
    # BUILD sets attributes of what is on the stack: here of the stand-in for numpy.dtype.
    build = b"\x80\x02cnumpy\ndtype\n(N}X\x08\x00\x00\x00__call__K\x01stb."
    (tmp_path / "x.pkl").write_bytes(build)
    with pytest.raises(UserError, match="AttributeError"):
        load_plain_pickle(tmp_path / "x.pkl")
    assert load_plain_pickle(write(tmp_path / "y.pkl", np.arange(3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder", "absent", "wrong size"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "x.pkl", {"easy": np.arange(5)})
    data = path.read_bytes()
    if damage in ("folder", "absent"):
        path.unlink()
        if damage == "folder":
            path.mkdir()
    else:
        wrong_size = data.replace(b"K\x05\x85", b"K\x09\x85")
        assert wrong_size != data
        path.write_bytes({"cut": data[:-9], "text": b"hello\n", "empty": b"", "wrong size": wrong_size}[damage])
    with pytest.raises(UserError, match=r"x\.pkl") as error:
        load_plain_pickle(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_value_in_itself_does_not_hang(tmp_path: Path) -> None:
    value: list[Any] = [1]
    value.append(value)
    read = load_plain_pickle(write(tmp_path / "x.pkl", value))
    assert read[1] is read
