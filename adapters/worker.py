"""A process of another Python, called line by line: one JSON object a line on its standard streams.

    worker -> us   {"ready": true}                                         its model is loaded
    us -> worker   {"id": 1, "video": "/clip.mp4", "audio": null, "subtitle": "I'm fine.",
                    "seed": 7}                                              null: not given
                    and "question": ".." where a task asks another than the worker's own
    worker -> us   {"id": 1, "text": "She smiles."}                         and, if it likes,
                    "notes": [..], "thinking": "..", "prompt_tokens": 9, "new_tokens": 3
    or             {"id": 1, "error": "the file is torn", "status": "unreadable"}

One request is under way at a time. Lines that are no JSON object with one of these keys are what
the worker's libraries print; they are passed over. The end of its input tells a worker to end, so
that it does so however we do. It leads a session of its own, and what it started ends with it, also
in other sessions, unless the process in between has ended before.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil

from ovmer.baselines.errors import ClipError, OvmerError, Timeout

LONGEST_LINE = 1 << 20
"""Bytes; a description takes a few hundred, and thinking some ten thousand."""
_KEPT = 4096  # bytes of its standard error, of which the last line is shown
_SHOWN = 200  # characters of that line
_PIECE = 1 << 16
_SECONDS_TO_END = 5.0
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables that would lead another Python to this one's packages."""


class WorkerDied(OvmerError):
    """The worker's process ended."""


class WorkerProcess:
    """One process. After any error that is raised here it is gone, and another one is needed."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the process; raises OSError where there is none to start."""
        environment = {key: value for key, value in os.environ.items() if key not in _OURS}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            **pipes,  # type: ignore[call-overload]
        )
        self._unread, self._last_words = b"", b""
        self._without_key = ""
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)
        for pipe in (self._process.stdout, self._process.stderr):
            self._selector.register(pipe, selectors.EVENT_READ)

    def wait_ready(self, seconds: float) -> None:
        """Wait for its first line. Raises WorkerDied, Timeout, or ClipError for a line too long."""
        self._exchange(b"", "ready", seconds)

    def ask(self, request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        """The reply to a request, which has an `id`. Raises as `wait_ready` does."""
        # All in ASCII, so that no encoding of the worker's standard input can matter.
        line = json.dumps(request).encode("ascii") + b"\n"
        reply = self._exchange(line, "id", seconds)
        if reply["id"] != request["id"]:
            self.kill()
            raise ClipError(
                f"the worker answered request {reply['id']!r} when it was asked {request['id']}; "
                "it must answer each request once, in their order"
            )
        return reply

    def end(self) -> None:
        """Close its input and give it a moment."""
        started = _descendants(self._process.pid)
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        self.kill(started)

    def kill(self, started: Sequence[psutil.Process] = ()) -> None:
        """End it, whatever it started, and the processes in `started`."""
        started = [*started, *_descendants(self._process.pid)]
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def _exchange(self, unsent: bytes, key: str, seconds: float) -> Mapping[str, Any]:
        """Send a line, and read on until an object with that key comes."""
        stdin, until = self._process.stdin, time.monotonic() + seconds
        if unsent:
            self._selector.register(stdin, selectors.EVENT_WRITE)
        while (found := self._object_with(key)) is None:
            left = until - time.monotonic()
            ready = self._selector.select(left) if left > 0 else []
            if not ready:
                self.kill()
                more = f"{self._lacks(key)}{self._said()}"
                raise Timeout(f"the worker gave no answer within {seconds:g} s{more}")
            for each, _ in ready:
                if each.fileobj is not stdin:
                    self._read(each.fileobj)
                elif not (unsent := self._write(unsent)):
                    self._selector.unregister(stdin)
        if unsent:  # it answers what it has not read
            self._selector.unregister(stdin)
        return found

    def _write(self, unsent: bytes) -> bytes:
        try:
            return unsent[os.write(self._process.stdin.fileno(), unsent) :]
        except BrokenPipeError:
            return b""  # its end is noticed at its output, after the last message

    def _read(self, pipe: Any) -> None:
        piece = os.read(pipe.fileno(), _PIECE)
        if pipe is self._process.stderr:
            self._last_words = (self._last_words + piece)[-_KEPT:]
            if not piece:
                self._selector.unregister(pipe)
        elif piece:
            self._unread += piece
            if len(self._unread) > LONGEST_LINE and b"\n" not in self._unread:
                self.kill()
                raise ClipError(f"the worker printed a line of more than {LONGEST_LINE} bytes")
        else:
            self._raise_died()

    def _raise_died(self) -> None:
        """Raise the error for a worker that closed its output, because it ended or misbehaved."""
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            code = None
        while piece := self._rest_of_stderr():
            self._last_words = (self._last_words + piece)[-_KEPT:]
        self.kill()
        if code is None:
            how = "it closed its standard output"
        elif code < 0:
            how = f"it was killed by {signal.Signals(-code).name}"
        else:
            how = f"it ended with status {code}"
        raise WorkerDied(f"{how}{self._said()}")

    def _rest_of_stderr(self) -> bytes:
        try:
            return os.read(self._process.stderr.fileno(), _PIECE)
        except BlockingIOError:  # a child of the worker's holds it open
            return b""

    def _object_with(self, key: str) -> Mapping[str, Any] | None:
        """The next object with that key among the whole lines that are there."""
        while b"\n" in self._unread:
            line, _, self._unread = self._unread.partition(b"\n")
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and key in found:
                return found
            if isinstance(found, dict):
                self._without_key = line[:_SHOWN].decode("utf-8", "replace")
        return None

    def _lacks(self, key: str) -> str:
        """The last object that was no answer, as the end of a sentence."""
        return f'; what it printed lacks "{key}": {self._without_key}' if self._without_key else ""

    def _said(self) -> str:
        """The last line of its standard error, as the end of a sentence."""
        lines = self._last_words.decode("utf-8", "replace").strip().splitlines()
        return f"; the last that it said: {lines[-1].strip()[-_SHOWN:]}" if lines else ""


def _descendants(pid: int) -> list[psutil.Process]:
    """Processes that it started, directly or not, whatever session they are in."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
