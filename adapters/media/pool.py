"""Child processes that read files, each used again and again.

Guaranteed: a call returns, or raises, within its time limit, whatever native code does in the
child, which is ended then. A file that makes a library crash costs that clip alone. A good file
pays one more copy of its pixels (tests/benchmarks/frames.py).
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ovmer.adapters.media.container import unavailable, where
from ovmer.adapters.media.sampling import Rule
from ovmer.adapters.media.wire import Channel, open_window
from ovmer.baselines import errors
from ovmer.baselines.errors import ClipError, OutOfMemory, Timeout, Unavailable, Unreadable

_FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
"""Signals that a library raises over a file; others come from outside."""


class _Child:
    """One process and the channel to it."""

    def __init__(self) -> None:
        with ExitStack() as on_failure, ExitStack() as passed_on:
            ours, theirs = socket.socketpair()
            on_failure.callback(ours.close)
            passed_on.callback(theirs.close)
            window = open_window()
            passed_on.callback(os.close, window)
            self.channel = Channel(ours, window)
            handed = [theirs.fileno(), window]
            # -P: nothing in the user's current folder can replace a module.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ovmer.adapters.media.child", *map(str, handed)],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
            on_failure.pop_all()

    def end(self) -> int:
        """End it at once; returns its exit code, or minus the signal that had ended it before."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)  # it may be ending by itself, which says why
        self.process.kill()
        self.channel.close()
        return self.process.wait()


_idle: list[_Child] = []
_lock = threading.Lock()
_room = threading.BoundedSemaphore((os.cpu_count() or 1) + 2)


@contextmanager
def _borrowed() -> Iterator[_Child]:
    """A child for one file; ended where anything but a whole answer comes of it."""
    with _room:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is not None and child.process.poll() is not None:  # ended from outside
            child.end()
            child = None
        child = child or _Child()
        try:
            yield child
        except _Answered:
            with _lock:
                _idle.append(child)
            raise
        except BaseException:
            child.process.kill()
            child.end()
            raise
        with _lock:
            _idle.append(child)


class _Answered(Exception):
    """The child gave a whole answer, which is an error."""


def read_in_child(
    kind: str, path: Path, pick: Rule, arguments: dict[str, Any], limit: float
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read as `reading.read` does, in a child process, within `limit` seconds."""
    request = {"kind": kind, "path": str(path.absolute()), "arguments": arguments, "limit": limit}
    try:
        with _borrowed() as child:
            try:
                return _converse(child, request, pick, limit)
            except TimeoutError as error:
                raise Timeout(
                    f"{where(path)} was not read within {limit:g} s, the limit media.seconds"
                ) from error
            except (EOFError, ConnectionError) as error:
                raise _died(path, child.end()) from error
    except _Answered as answered:
        name, message = answered.args
        raise (getattr(errors, name)(message) if name else ClipError(message)) from None
    except OSError as error:  # no handle or process left for a child
        raise unavailable(path, error) from error


def _converse(
    child: _Child, request: dict[str, Any], pick: Rule, limit: float
) -> tuple[NDArray[Any], dict[str, Any]]:
    deadline = time.monotonic() + limit
    channel = child.channel
    channel.socket.settimeout(limit)
    channel.send(request)
    while True:
        channel.socket.settimeout(max(deadline - time.monotonic(), 1e-3))
        message = channel.receive()
        if "error" in message:
            raise _Answered(message["error"], message["message"])
        if "shape" in message:
            return channel.receive_array(message), message["facts"]
        channel.send({"indices": list(pick(message["count"], message["fps"]))})


def _died(path: Path, code: int) -> ClipError:
    """The error for a clip at which a child process ended."""
    if code == -signal.SIGKILL:
        return OutOfMemory(
            f"the process that read {where(path)} was killed, probably for lack of memory"
        )
    if code == -signal.SIGALRM:
        return Timeout(f"{where(path)} was not read within the limit media.seconds")
    if -code in _FAULTS:
        name = signal.Signals(-code).name
        return Unreadable(f"{where(path)} is damaged: the library that read it crashed ({name})")
    return Unavailable(f"the process that read {where(path)} ended ({code})")


def close() -> None:
    """End the processes that are idle."""
    with _lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.process.kill()
        child.end()


def _forget() -> None:
    """A forked process has no children of its own yet."""
    global _lock, _room
    _idle.clear()
    _lock = threading.Lock()
    _room = threading.BoundedSemaphore((os.cpu_count() or 1) + 2)


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
