"""Read pickles of others without running any of their code.

Training scripts leave objects of their own beside the weights: an `argparse.Namespace`, a numpy
scalar, a `pathlib.Path`. Here every class and function that a pickle names becomes a placeholder
that does nothing, except for the few by which torch describes a tensor: a `StoredTensor` each.

Guarantee: nothing that a pickle names is imported or called. (`pickle.Unpickler.find_class` is the
only way from a pickle to code; the documentation of pickle, "Restricting Globals".)
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2,
    "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
"""torch's data types by name."""

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip
_DEEPEST = 8
"""Most dimensions of a tensor; no model has more."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a torch file, which tensors share."""

    key: str
    dtype: str | None
    """None of an untyped storage, whose tensors say it."""
    count: int
    """Elements, or bytes of an untyped storage."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a torch file describes it. `offset` and `stride` count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def reach(self) -> int:
        """Elements from the tensor's first to its last, both included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))


class Inert(dict[Any, Any]):
    """An object of a class that was not imported. What was assigned to it is kept as a dict."""

    origin = ""
    """Module and name of the class."""

    def __new__(cls, *arguments: Any, **options: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.update(part)

    def __call__(self, *arguments: Any, **options: Any) -> "Inert":
        return self

    def append(self, item: Any) -> None:
        """Accept the items of a list."""

    def extend(self, items: Any) -> None:
        """Accept the items of a list."""

    def add(self, item: Any) -> None:
        """Accept the items of a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # may be a key, as an enum's member is
    __eq__ = object.__eq__


def load(stream: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The next pickle of a stream, tensors as `StoredTensor`, other objects as `Inert`.

    All storages that it names are entered in `storages`. Raises pickle.UnpicklingError, and what
    else `pickle` raises for torn bytes.
    """
    return _InertUnpickler(stream, {} if storages is None else storages).load()


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], storages: dict[str, Storage]) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and (name in _STORAGES or name in ITEM_BYTES):
            return _Named(name)
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return _Named(name)
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})

    def persistent_load(self, saved: Any) -> Any:
        """Read what torch writes for a storage: ("storage", type, key, device, count, ...)."""
        match saved:
            case ("storage", _Named(name=kind), key, _, int(count), *view):
                if any(view):  # a storage within another, as torch wrote them before release 0.4
                    raise pickle.UnpicklingError("views of storages are not read")
                storage = Storage(str(key), _STORAGES.get(kind), count)
                return self._storages.setdefault(storage.key, storage)
            case ("module", *_):  # the source code of a class, as torch wrote it before 2020
                return Inert()
        raise pickle.UnpicklingError(f"there is an object of unknown kind, {str(saved)[:60]}")


@dataclass(frozen=True)
class _Named:
    """A data type or a type of storage by its name in torch."""

    name: str

    def __call__(self, *arguments: Any) -> Inert:
        return Inert()


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: str | None = None
) -> StoredTensor | Inert:
    """torch._utils._rebuild_tensor and its successors: a part of a storage."""
    if not isinstance(storage, Storage):
        return Inert()
    dtype = dtype or storage.dtype
    numbers = (offset, *size, *stride)
    sound = (
        dtype is not None
        and len(size) == len(stride) <= _DEEPEST
        and all(type(number) is int and 0 <= number < 2**48 for number in numbers)
    )
    if not sound or dtype is None:
        raise pickle.UnpicklingError("a tensor has an impossible shape")
    found = StoredTensor(storage, dtype, offset, tuple(size), tuple(stride))
    unit = 1 if storage.dtype else ITEM_BYTES[dtype]
    if found.reach and (offset + found.reach) * unit > storage.count:
        raise pickle.UnpicklingError("a tensor is larger than what is stored of it")
    return found


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> StoredTensor | Inert:
    name = dtype.name if isinstance(dtype, _Named) else ""
    return _tensor(storage, offset, size, stride, dtype=name if name in ITEM_BYTES else None)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _of_type(rebuild: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor of a subclass; `rebuild` is one of these functions or a placeholder."""
    return rebuild(*arguments)


def _size(numbers: Sequence[int] = ()) -> tuple[int, ...]:
    return tuple(numbers)


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}
