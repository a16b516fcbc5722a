"""Batches that shrink when the device runs out of memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ovmer.baselines.errors import ClipError, OutOfMemory

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """Runs a function over items in batches; a size that did not fit is not tried again."""

    def __init__(self) -> None:
        self.size: int | None = None
        """The largest batch that is tried; None as long as everything fitted."""

    def run(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result | ClipError]:
        """The results in the order of the items; OutOfMemory for an item that fails even alone."""
        results: list[Result | ClipError] = []
        while len(results) < len(items):
            batch = items[len(results) :][: self.size]
            answers = self._try(function, batch)
            if answers is not None:
                results.extend(answers)
            elif len(batch) > 1:
                self.size = len(batch) // 2
            else:
                results.append(
                    OutOfMemory("the clip does not fit the device, even alone; use a larger GPU")
                )
        return results

    def _try(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]
    ) -> Sequence[Result] | None:
        """What the function returns, or None where memory ran out."""
        try:
            return function(batch)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                raise
        # Outside the handler: the error's traceback would keep the tensors of the failed call.
        clear_device_cache(garbage_collection=True)
        return None
