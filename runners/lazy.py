"""Sequences whose items are made when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """What `make` makes of each of `keys`, each time that it is asked for: 100,000 clips take no
    more memory than their keys."""

    def __init__(self, keys: Sequence[Any], make: Callable[[Any], T]) -> None:
        self._keys, self._make = keys, make

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, self._keys)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> "LazySequence[T]": ...
    def __getitem__(self, at: int | slice) -> "T | LazySequence[T]":
        if isinstance(at, slice):
            return LazySequence(self._keys[at], self._make)
        return self._make(self._keys[at])
