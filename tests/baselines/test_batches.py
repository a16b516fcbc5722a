"""Batches shrink when memory runs out, and grow again when there is room."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

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
    assert batches.run(device.double, range(8)) == [2 * i for i in range(8)]
    assert device.asked == [8, 4, 2, 2, 2, 2]


def test_sizes_grow_again_when_there_is_room() -> None:
    device, batches = Device(room=2), Batches()
    batches.run(device.double, range(16))
    device.room = 1000
    batches.run(device.double, range(200))
    assert batches.run(device.double, range(16)) == [2 * i for i in range(16)]
    assert device.asked[-1] == 16
    assert batches.size is None


def test_where_there_is_no_room_growing_is_tried_ever_more_seldom() -> None:
    device, batches = Device(room=2), Batches()
    batches.run(device.double, range(400))
    assert sum(size > 2 for size in device.asked) < 20, "of 200 batches"


def test_what_does_not_fit_alone_is_tried_once_more_with_the_device_to_itself() -> None:
    device, batches = Device(room=0), Batches()

    class Alone(AbstractContextManager[None]):
        def __enter__(self) -> None:
            device.room = 1

        def __exit__(self, *raised: object) -> None:
            device.room = 0

    assert batches.run(device.double, range(5), Alone()) == [0, 2, 4, 6, 8]


def test_the_first_items_that_fit_are_separated_from_the_rest() -> None:
    device = Device(room=2)
    assert Batches().fitting(device.double, [1, 2, 3, -1, 5]) == [2, 4, 6]
    assert device.asked == [5, 2, 2, 1, 1]


def test_one_item_that_does_not_fit_alone_takes_no_other_with_it() -> None:
    first, bad, last = Batches().run(Device(room=8).double, [1, -1, 3])
    assert (first, last) == (2, 6)
    assert isinstance(bad, OutOfMemory)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_of_the_host_and_of_the_driver_counts_too(error: Exception) -> None:
    def fail(items: Sequence[int]) -> list[int]:
        raise error

    assert isinstance(Batches().run(fail, [1])[0], OutOfMemory)


def test_other_errors_pass_through() -> None:
    def fail(items: Sequence[int]) -> list[int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches().run(fail, [1, 2])
