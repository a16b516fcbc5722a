"""Arrays of any size arrive whole, through memory that is smaller than the largest of them."""

import socket
import threading

import numpy as np
import pytest

from ovmer.adapters.media.wire import Channel, open_window

MIB = 1 << 20


@pytest.fixture
def ends():
    window = open_window()
    here, there = (Channel(each, window) for each in socket.socketpair())
    yield here, there
    here.close()
    there.close()


def sent(ends, array):
    here, there = ends
    sender = threading.Thread(target=here.send_array, args=(array, {"notes": ["n"]}))
    sender.start()
    message = there.receive()
    received = there.receive_array(message)
    sender.join()
    assert message["facts"] == {"notes": ["n"]}
    return received


@pytest.mark.parametrize("size", [0, 1, 2 * MIB, 2 * MIB + 1, 16 * MIB, 16 * MIB + 1, 40 * MIB + 7])
def test_any_size(ends, size):
    array = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    np.testing.assert_array_equal(sent(ends, array), array)


def test_one_after_another_of_other_types_and_strides(ends):
    for array in (np.arange(12.0).reshape(3, 4)[:, ::2], np.float32(3), np.ones((2, 0, 3), bool)):
        received = sent(ends, np.asarray(array))
        assert received.dtype == array.dtype
        np.testing.assert_array_equal(received, array)
