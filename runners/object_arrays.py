"""Members of .npz files, object arrays included, without running code that a file names.

numpy opens an object array by unpickling it: that can run code, and a list shorter than its shape
ends Python with a segmentation fault. The authors' files hold dicts, lists, texts, numbers and
numpy scalars, so what rebuilds those is done here, and anything else is refused by name.
"""

import io
import math
import pickle
import re
from typing import Any

_PLAIN_TYPE = re.compile(r"[<>|=]?(?:[fiu][1248]|b1|[USO]\d*)")
"""numpy's names of numbers, truth values, texts, bytes and objects."""


def read_member(content: bytes) -> Any:
    """The content of a .npy file as lists, dicts, texts and numbers.

    An array of no dimensions is its one item. Raises ValueError for what is no such file, and
    pickle.UnpicklingError for one that asks for more than its kind needs.
    """
    from numpy.lib import format as npy

    file = io.BytesIO(content)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in read_header:
        raise ValueError(f"version {version} of the npy format is not known")
    _, _, dtype = read_header[version](file)
    if not dtype.hasobject:
        file.seek(0)
        return npy.read_array(file, allow_pickle=False).tolist()
    try:
        return _plain(_ArrayUnpickler(file).load())
    except (AttributeError, EOFError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"its pickle is damaged ({error})") from error


class _Dtype:
    """Stands for numpy.dtype."""

    def __init__(self, name: str, *flags: object) -> None:
        if not _PLAIN_TYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"it holds the type {name!r:.40}")
        self._name, self._order = name, ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = {"<": "<", ">": ">"}.get(state[1], "")

    @property
    def is_object(self) -> bool:
        return self._name.lstrip("<>|=").startswith("O")

    def values(self, data: bytes, count: int) -> list[Any]:
        """Array items, read from their bytes."""
        import numpy as np

        dtype = np.dtype(self._order + self._name.lstrip("<>|="))
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{len(data)} bytes are not {count} items of {self._name}")
        found: list[Any] = np.frombuffer(data, dtype, count).tolist()
        return found


class _Array:
    """Replaces numpy.ndarray, whose own `__setstate__` trusts the shape that a file claims."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, data = state
        count = math.prod(shape)
        self.values = data if dtype.is_object else dtype.values(data, count)
        self.is_scalar = not shape
        if not isinstance(self.values, list) or len(self.values) != count:
            raise ValueError(f"an array claims {count} items, but holds others")
        if len(shape) > 1:
            raise ValueError(f"an array has {len(shape)} dimensions; lists of labels have one")


def _plain(value: Any) -> Any:
    """`value` with lists and items for arrays."""
    if isinstance(value, _Array):
        values = [_plain(each) for each in value.values]
        return values[0] if value.is_scalar else values
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _reconstruct(*arguments: object) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, data: Any = b"") -> Any:
    return data if dtype.is_object else dtype.values(data, 1)[0]


def _encode(text: str, coding: str = "latin1") -> bytes:
    """The bytes of a scalar, as Python 2's protocol writes them."""
    return text.encode("latin1")


_STAND_INS = {
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # where it stood before numpy 2
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]
