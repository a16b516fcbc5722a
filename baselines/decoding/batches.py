"""Batches that shrink when the device runs out of memory, and grow again when it has room."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache

from ovmer.baselines.errors import ClipError, OutOfMemory
from ovmer.baselines.faults import is_out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

DOES_NOT_FIT = "the clip does not fit the device, even alone; use a larger GPU"
_STEADY = 4
"""After this many full batches that fit, a batch twice as large is tried."""
_STEADIEST = 64
"""Each time that fails, twice as many are waited for, up to this."""


class Batches:
    """Runs a function over items in batches of a size that fits the device's memory."""

    def __init__(self) -> None:
        self.size: int | None = None
        """The largest batch that is tried; None as long as everything fits."""
        self._too_large = 0
        self._steady, self._fitted, self._has_grown = _STEADY, 0, False

    def run(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result]],
        items: Sequence[Item],
        exclusive: AbstractContextManager[object] | None = None,
    ) -> list[Result | ClipError]:
        """The results in the order of the items; OutOfMemory for an item that fails even alone.

        An item that fails alone is tried once more inside `exclusive`, which keeps others off the
        device.
        """
        results: list[Result | ClipError] = []
        while True:
            results += self.fitting(function, items[len(results) :])
            if len(results) == len(items):
                return results
            with exclusive or nullcontext():
                answers = self._try(function, items[len(results) :][:1])
            if answers is None:
                results.append(OutOfMemory(DOES_NOT_FIT))
            else:
                results += answers

    def fitting(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """The results of the first items, up to one that does not fit even alone."""
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) :][: self.size]
            answers = self._try(function, batch)
            if answers is not None:
                results += answers
                self.fitted(len(batch))
            else:
                self.failed(len(batch))
                if len(batch) == 1:
                    break
        return results

    def fitted(self, count: int) -> None:
        """Learn from a batch of `count` that fits."""
        if self.size is None or count < self.size:
            return
        if self._has_grown:
            self._steady, self._has_grown = _STEADY, False
        self._fitted += 1
        if self._fitted == self._steady:
            grown = 2 * self.size
            self.size = grown if grown < self._too_large else None
            self._fitted, self._has_grown = 0, True

    def failed(self, count: int) -> None:
        """Learn from a batch of `count` that does not."""
        if self._has_grown:
            self._steady = min(2 * self._steady, _STEADIEST)
        self._too_large = max(self._too_large, count)
        self.size = max(count // 2, 1)
        self._fitted, self._has_grown = 0, False

    def _try(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]
    ) -> Sequence[Result] | None:
        """The function's results, or None if memory ran out."""
        try:
            return function(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the error's traceback would keep the tensors of the failed call.
        clear_device_cache(garbage_collection=True)
        return None
