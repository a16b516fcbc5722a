"""Pickled members of .npz files: the authors' are read, everything else is refused."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovmer.runners.object_arrays import read_member


def member(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_pickle(content: bytes) -> bytes:
    """An object array of one item whose pickle is `content`."""
    whole = member(np.array([None], dtype=object))
    return whole[: whole.index(b"\n") + 1] + content


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array(["a", "bc"]), ["a", "bc"]),
        (np.array({"a": "sad", "b": ["x", "y"]}, dtype=object), {"a": "sad", "b": ["x", "y"]}),
        (np.array(["a", None, 3], dtype=object), ["a", None, 3]),
        (np.array({"v": np.float32(0.5), "n": np.int64(7)}, dtype=object), {"v": 0.5, "n": 7}),
        (np.array({"s": np.str_("\u5f00\u5fc3")}, dtype=object), {"s": "\u5f00\u5fc3"}),
        (np.array({"a": np.array([1.5, 2.5])}, dtype=object), {"a": [1.5, 2.5]}),
        (np.array(3.25), 3.25),
    ],
)
def test_what_the_authors_write_is_read(array: Any, expected: Any) -> None:
    assert read_member(member(array)) == expected


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_code_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"asks for posix\.system"):
        read_member(member(np.array([Code()], dtype=object)))
    assert not (tmp_path / "ran").exists()


def test_a_list_shorter_than_its_shape_is_an_error() -> None:
    """numpy itself ends the process with a segmentation fault here."""
    whole = member(np.array(["a", "b"], dtype=object))
    pickled = whole[whole.index(b"\n") + 1 :]
    shorter = pickled.replace(b"K\x02\x85", b"K\x63\x85")  # the shape (2,) becomes (99,)
    assert shorter != pickled
    with pytest.raises(ValueError, match="claims 99 items"):
        read_member(with_pickle(shorter))


@pytest.mark.parametrize("length", range(0, 140, 7))
def test_a_cut_member_is_an_error(length: int) -> None:
    whole = member(np.array({"a": np.str_("sad")}, dtype=object))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        read_member(whole[: len(whole) - 1 - length])
