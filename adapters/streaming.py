"""Clips that go through the encoders while others are generated, answered in a stream."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from ovmer.adapters.base import Prepared
from ovmer.baselines.decoding.answers import Generated, StreamingEngine
from ovmer.baselines.errors import ClipError, OutOfMemory

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Prompt


@dataclass(frozen=True)
class Encoded:
    """A clip's inputs after `encode`; of a model without encoders, what `prepare` makes."""

    prompt: "Prompt | str"
    """As the engine takes it: text for a server alone."""


def is_encoded(item: Prepared) -> bool:
    """Whether nothing is left to encode: a clip without inputs has an empty answer."""
    return item.inputs is None or isinstance(item.inputs, Encoded)


def answered(
    engine: StreamingEngine,
    items: Iterable[Prepared],
    encode_alone: Callable[[Prepared], Prepared | ClipError],
    exclusive: AbstractContextManager[object],
) -> Iterator[tuple[int, Prepared, Generated | ClipError]]:
    """(index, clip, answer), each as soon as it is known; empty for a clip without inputs.

    A clip that does not fit the device beside others has it for itself: one that could not be
    encoded waits until all before it are answered, then `encode_alone` has it; one whose answer
    does not fit is asked once more inside `exclusive`, which keeps the encoders off.
    """
    coming, asked = enumerate(items), dict[int, Prepared]()
    late, alone = list[tuple[int, Prepared]](), list[tuple[int, Prepared]]()
    empty = list[tuple[int, Prepared]]()

    def ready() -> Iterator[tuple[int, tuple["Prompt | str", int]]]:
        for index, item in chain(alone, coming):
            if item.inputs is None:
                empty.append((index, item))
                continue
            if not isinstance(item.inputs, Encoded):
                late.append((index, item))
                return
            asked[index] = item
            yield index, (item.inputs.prompt, item.seed)

    while True:
        for index, answer in engine.stream(ready()):
            item = asked.pop(index)
            if isinstance(answer, OutOfMemory):
                with exclusive:
                    ((_, answer),) = engine.stream([(index, (item.inputs.prompt, item.seed))])
            yield index, item, answer
        while empty:
            yield *empty.pop(), Generated("")
        if not late:
            return
        index, item = late.pop()
        encoded = encode_alone(item)
        alone[:] = [] if isinstance(encoded, ClipError) else [(index, encoded)]
        if isinstance(encoded, ClipError):
            yield index, item, encoded
