"""Messages between a process and its child that reads files: JSON through a socket, and arrays
through memory that both share, which saves half the cost of sending them."""

import json
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<Q")
_WINDOW = 16 << 20
"""Bytes of shared memory; larger arrays go through it piece by piece. Pages are taken when used."""
_NEXT = b"n"
"""Asks for the next piece, and says that it is there."""


def open_window() -> int:
    """Return the descriptor of new shared memory, for `Channel`s at both ends."""
    if hasattr(os, "memfd_create"):
        window = os.memfd_create("ovmer-media")
    else:
        with tempfile.TemporaryFile() as file:
            window = os.dup(file.fileno())
    os.ftruncate(window, _WINDOW)
    return window


class Channel:
    """One end of a connection: a socket, and shared memory. It owns the socket."""

    def __init__(self, connection: socket.socket, window: int) -> None:
        """Map the shared memory with the descriptor `window`, which may be closed then."""
        self.socket = connection
        self._window = mmap.mmap(window, _WINDOW)

    def close(self) -> None:
        self.socket.close()
        self._window.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        data = json.dumps(message).encode()
        self.socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> dict[str, Any]:
        """Receive one message; EOFError where the other end is gone."""
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        message: dict[str, Any] = json.loads(self._take(length))
        return message

    def send_array(self, array: NDArray[Any], facts: dict[str, Any]) -> None:
        """Send an array and what is known of it."""
        array = np.ascontiguousarray(array)
        header = {"shape": array.shape, "dtype": array.dtype.str, "facts": facts}
        pieces = self._pieces(array)
        for piece, shared in islice(pieces, 1):  # before it is announced: this spares a turn
            np.copyto(shared, piece)
        self.send(header)
        for piece, shared in pieces:
            self._take(len(_NEXT))
            np.copyto(shared, piece)
            self.socket.sendall(_NEXT)

    def receive_array(self, message: dict[str, Any]) -> NDArray[Any]:
        """Receive the array that a message announces."""
        array: NDArray[Any] = np.empty(message["shape"], np.dtype(message["dtype"]))
        for number, (piece, shared) in enumerate(self._pieces(array)):
            if number:
                self.socket.sendall(_NEXT)
                self._take(len(_NEXT))
            np.copyto(piece, shared)
        return array

    def _pieces(self, array: NDArray[Any]) -> "Iterator[tuple[NDArray[Any], NDArray[Any]]]":
        """Stretches of an array's bytes, each with as much shared memory."""
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, len(flat), _WINDOW):
            piece = flat[start : start + _WINDOW]
            yield piece, np.frombuffer(self._window, np.uint8, len(piece))

    def _take(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while len(view):
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data
