"""Messages between a process and its child that reads files: JSON, and arrays as plain bytes."""

import json
import socket
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<Q")


def send(to: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    data = json.dumps(message).encode()
    to.sendall(_LENGTH.pack(len(data)) + data)


def send_array(to: socket.socket, array: NDArray[Any], facts: dict[str, Any]) -> None:
    """Send an array and what is known of it."""
    array = np.ascontiguousarray(array)
    send(to, {"shape": array.shape, "dtype": array.dtype.str, "facts": facts})
    if array.size:  # memoryview cannot cast an empty array
        to.sendall(array.data.cast("B"))


def receive(source: socket.socket) -> dict[str, Any]:
    """Receive one message; EOFError where the other end is gone."""
    head = bytearray(_LENGTH.size)
    _fill(source, memoryview(head))
    data = bytearray(_LENGTH.unpack(head)[0])
    _fill(source, memoryview(data))
    message: dict[str, Any] = json.loads(data)
    return message


def receive_array(source: socket.socket, message: dict[str, Any]) -> NDArray[Any]:
    """Receive the array that a message announces."""
    array: NDArray[Any] = np.empty(message["shape"], np.dtype(message["dtype"]))
    if array.size:
        _fill(source, array.data.cast("B"))
    return array


def _fill(source: socket.socket, view: memoryview) -> None:
    while len(view):
        got = source.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
