"""Batches shrink when memory runs out, and stay small."""

from collections.abc import Sequence

import pytest
import torch

from ovmer.baselines.decoding.batches import Batches
from ovmer.baselines.errors import OutOfMemory


class Device:
    """Doubles numbers, at most `room` at once; a negative one takes more room than there is."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def double(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.room or min(items) < 0:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return [2 * item for item in items]


def test_a_batch_is_halved_until_it_fits_and_that_is_remembered() -> None:
    device, batches = Device(room=3), Batches()
    assert batches.run(device.double, range(10)) == [2 * i for i in range(10)]
    assert device.asked == [10, 5, 2, 2, 2, 2, 2]
    assert batches.run(device.double, range(4)) == [0, 2, 4, 6]
    assert device.asked[7:] == [2, 2]


def test_one_item_that_does_not_fit_alone_takes_no_other_with_it() -> None:
    first, bad, last = Batches().run(Device(room=8).double, [1, -1, 3])
    assert (first, last) == (2, 6)
    assert isinstance(bad, OutOfMemory)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9")],
)
def test_memory_of_the_host_counts_too(error: Exception) -> None:
    def fail(items: Sequence[int]) -> list[int]:
        raise error

    assert isinstance(Batches().run(fail, [1])[0], OutOfMemory)


def test_other_errors_pass_through() -> None:
    def fail(items: Sequence[int]) -> list[int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches().run(fail, [1, 2])
