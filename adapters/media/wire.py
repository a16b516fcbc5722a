"""Messages between a process and its child that reads files: JSON through a socket, and arrays
through memory that both share, which saves half the cost of sending them."""

import json
import mmap
import os
import socket
import struct
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<Q")
_PIECE, _SLOTS = 2 << 20, 8
"""Bytes of a piece, and pieces that the shared memory holds: one end copies a piece while the other
copies the one before. Pages are allocated when used."""
_WINDOW = _PIECE * _SLOTS
_NEXT = b"n"
"""Says that a piece is there, or that its slot is free again."""


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
        self.send({"shape": array.shape, "dtype": array.dtype.str, "facts": facts})
        for number, (piece, shared) in enumerate(self._pieces(array)):
            if number >= _SLOTS:
                self._take(len(_NEXT))
            np.copyto(shared, piece)
            self.socket.sendall(_NEXT)

    def receive_array(self, message: dict[str, Any]) -> NDArray[Any]:
        """Receive the array that a message announces."""
        array: NDArray[Any] = np.empty(message["shape"], np.dtype(message["dtype"]))
        pieces = self._pieces(array)
        for number, (piece, shared) in enumerate(pieces):
            self._take(len(_NEXT))
            np.copyto(piece, shared)
            if number + _SLOTS < len(pieces):
                self.socket.sendall(_NEXT)
        return array

    def _pieces(self, array: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Stretches of an array's bytes, each with its slot of the shared memory."""
        flat = array.reshape(-1).view(np.uint8)
        found = list[tuple[NDArray[Any], NDArray[Any]]]()
        for number, start in enumerate(range(0, len(flat), _PIECE)):
            piece, slot = flat[start : start + _PIECE], number % _SLOTS * _PIECE
            found.append((piece, np.frombuffer(self._window, np.uint8, len(piece), slot)))
        return found

    def _take(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while len(view):
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data
