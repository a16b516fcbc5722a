"""Progress and notes of a run, on stderr: stdout is for results."""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tqdm import tqdm

from ovmer.baselines.errors import Status
from ovmer.runners.foreign_text import visible

# Its own lock is one of processes too: a semaphore, of which Python prints a warning after SIGKILL.
tqdm.set_lock(threading.RLock())

_LINE_SECONDS = 10.0  # of silence, before a line where stderr is no terminal


def say(line: str) -> None:
    """Print a line on stderr that does not break a progress bar.

    Where stderr takes no more (a full disk, a terminal that is gone) the run goes on in silence.
    """
    try:
        tqdm.write(visible(line), file=sys.stderr)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@contextmanager
def said_if_slow(line: str) -> Iterator[None]:
    """Say a line, unless it is empty, once the body has taken ten seconds."""
    timer = threading.Timer(_LINE_SECONDS, say, [line])
    timer.daemon = True
    if line:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Progress:
    """A bar with clips/s and time left; in a log file one line every ten seconds instead."""

    def __init__(self, total: int, what: str) -> None:
        self._what = what
        self._bar = tqdm(
            total=total, desc=what, unit="clip", dynamic_ncols=True, disable=None, leave=False
        )
        self._total, self._count = total, 0
        self._failed = Counter[Status]()
        self._started = self._said = time.monotonic()

    def add(self, failure: Status | None = None, sentence: str = "") -> None:
        """Count one more clip; the first failure of each kind is printed at once."""
        self._count += 1
        if failure is not None:
            if not self._failed[failure]:
                say(f"{self._what}: {sentence}")
            self._failed[failure] += 1
            self._bar.set_postfix(failed=self._failed.total(), refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._said > _LINE_SECONDS:
            self._said = now
            elapsed = now - self._started
            say(tqdm.format_meter(self._count, self._total, elapsed, 80, self._what, unit="clip"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.close()
