"""What can fail under a sweep, at which call and in which stage, and what then holds.

Each row makes one call of Python's fail: the write, the fsync, the opening, the lock of the file
that the stage keeps. Whatever fails, three things hold of every row: the process ends; nothing
that was kept is lost; the same command, when nothing fails any more, ends as if undisturbed. What
else is promised stands in the row. (Servers that misbehave: extraction/test_server.py; workers:
adapters/test_external.py; media: adapters/test_media_limits.py; threads: runners/test_pipeline.py.)
"""

import errno
import fcntl
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

STAGES = {"describe": "predictions.jsonl", "extract": "labels.jsonl", "score": "scores.json"}
"""The file that each stage keeps."""
_JSON_LINES = ("describe", "extract")

GOES_ON, SENTENCE, STOPPED, TRACE = "goes on", "sentence", "stopped", "trace"
"""Promises: it ends well, with a warning; one sentence and status 2; a line and status 130; an
unforeseen error, with its stack trace and status 1."""


@dataclass(frozen=True)
class Fault:
    """One row. `promise` is one of those above, or the signal that ends the process."""

    call: str
    failure: int | type[BaseException] | signal.Signals
    """An errno, an exception, or a signal that comes at this call."""
    promise: str | signal.Signals
    stages: tuple[str, ...] = tuple(STAGES)

    def __str__(self) -> str:
        if isinstance(self.failure, signal.Signals):
            return f"{self.call} {self.failure.name}"
        if isinstance(self.failure, int):
            return f"{self.call} {errno.errorcode[self.failure]}"
        return f"{self.call} {self.failure.__name__}"

    def inject(self, stage: str) -> None:
        """Make the call fail in this process from now on; a signal comes once."""
        signals = [self.failure] if isinstance(self.failure, signal.Signals) else []
        _CALLS[self.call](STAGES[stage], partial(self._fail, signals))

    def _fail(self, signals: list[signal.Signals], path: str) -> None:
        if isinstance(self.failure, signal.Signals):
            if signals:
                os.kill(os.getpid(), signals.pop())
        elif isinstance(self.failure, int):
            raise OSError(self.failure, os.strerror(self.failure), path)
        else:
            raise self.failure("injected")


Fail = Callable[[str], None]


def _path_of(file: int) -> str:
    return os.readlink(f"/proc/self/fd/{file}")


def _failing(module: Any, name: str, is_meant: Callable[[str], bool], fail: Fail) -> None:
    """A function whose first argument is a file fails where that is the one that is meant."""
    real = getattr(module, name)

    def call(file: Any, *arguments: Any, **keywords: Any) -> Any:
        path = _path_of(file) if isinstance(file, int) else os.fspath(file)
        if is_meant(path):
            fail(path)
        return real(file, *arguments, **keywords)

    setattr(module, name, call)


class _Refusing(io.RawIOBase):
    """A file whose disk takes nothing."""

    def __init__(self, path: str, fail: Fail) -> None:
        self._path, self._fail = path, fail

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)

    def write(self, content: Any) -> int:
        self._fail(self._path)
        return len(content)


def _fail_write(name: str, fail: Fail) -> None:
    _failing(os, "write", lambda path: path.endswith(name), fail)
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **keywords: Any) -> Any:
        if name in path.name and "w" in mode:
            return io.BufferedWriter(_Refusing(str(path), fail))
        return real(path, mode, *rest, **keywords)

    Path.open = opened  # type: ignore[method-assign, assignment]


def _fail_open(name: str, fail: Fail) -> None:
    _failing(os, "open", lambda path: path.endswith(name), fail)
    real = Path.open

    def opened(path: Path, *rest: Any, **keywords: Any) -> Any:
        if path.name == f".{name}.new":
            fail(str(path))
        return real(path, *rest, **keywords)

    Path.open = opened  # type: ignore[method-assign, assignment]


def _fail_fsync(name: str, fail: Fail) -> None:
    _failing(os, "fsync", lambda path: name in path, fail)


def _fail_lock(name: str, fail: Fail) -> None:
    _failing(fcntl, "flock", lambda path: path.endswith(name), fail)


_CALLS = {
    "write": _fail_write,
    "open": _fail_open,
    "fsync": _fail_fsync,
    "flock": _fail_lock,
}

FAULTS = [
    Fault("write", errno.ENOSPC, SENTENCE),
    Fault("write", errno.EDQUOT, SENTENCE),
    Fault("write", errno.EIO, SENTENCE),
    Fault("write", errno.EFBIG, SENTENCE),
    Fault("write", errno.ESTALE, SENTENCE),
    Fault("write", MemoryError, TRACE),
    Fault("write", RuntimeError, TRACE),
    Fault("write", signal.SIGTERM, STOPPED),
    Fault("write", signal.SIGINT, STOPPED),
    Fault("write", signal.SIGKILL, signal.SIGKILL),
    Fault("write", signal.SIGHUP, signal.SIGHUP),
    Fault("write", signal.SIGSEGV, signal.SIGSEGV),
    Fault("write", signal.SIGABRT, signal.SIGABRT),
    Fault("fsync", errno.EIO, SENTENCE),
    Fault("fsync", errno.ENOSPC, SENTENCE),
    Fault("fsync", errno.ENOSYS, GOES_ON),
    Fault("fsync", errno.EINVAL, GOES_ON),
    Fault("open", errno.EACCES, SENTENCE),
    Fault("open", errno.EMFILE, SENTENCE),
    Fault("open", errno.EROFS, SENTENCE),
    Fault("flock", errno.ENOLCK, GOES_ON, _JSON_LINES),
    Fault("flock", errno.ENOSYS, GOES_ON, _JSON_LINES),
    Fault("flock", errno.EIO, SENTENCE, _JSON_LINES),
]
