"""Errors as one sentence and the exit status, for every command.

    0    all is well
    1    it ran, but a clip failed (one that lacks what the model uses did not) or a job died
    2    it could not start, or could not go on: the sentence says what to fix
    130  stopped; what was finished is kept, and the same command goes on from there

`OVMER_DEBUG=1` shows the stack trace as well.
"""

import errno
import functools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.progress import say

FINE, FAILED, UNABLE, STOPPED = 0, 1, 2, 130

_ECHO_SECONDS = 1.0
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def command(body: Callable[[], int]) -> Callable[[], NoReturn]:
    """Decorator of a command's `main`: exits with the status that `body` returns."""

    @functools.wraps(body)
    def main() -> NoReturn:
        _open_closed_streams()
        sys.exit(run(body))

    return main


def run(body: Callable[[], int], who: str = "", tell: Callable[[str], None] = say) -> int:
    """Run `body` and return its exit status; an error that the user can fix becomes one sentence.

    `who` goes before the sentence where several jobs speak; `tell` takes the sentence.
    """

    def end(sentence: str, status: int) -> int:
        if os.environ.get("OVMER_DEBUG") == "1":
            traceback.print_exc()
        tell(f"{who}{sentence}")
        return status

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _stop)
    try:
        _require_folders()
        status = body()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return end("the output was closed before all was written to it", FAILED)
    except KeyboardInterrupt:
        return end("stopped; what was finished is kept, the same command goes on", STOPPED)
    except ClipError as error:  # on_error=raise
        if error.__cause__ is not None and not isinstance(error.__cause__, ClipError):
            traceback.print_exception(error.__cause__)  # a mistake in code, perhaps the user's own
        return end(str(error), FAILED)
    except PrerequisiteError as error:
        return end(str(error), UNABLE)
    except _of_hydra() as error:  # before OSError, which some of these are too
        from ovmer.runners.explain import explain

        return end(explain(error), UNABLE)
    except OSError as error:
        if error.filename is None and error.errno not in _OF_THE_DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return end(f"{where}{error.strerror}; fix this and run again", UNABLE)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller has closed (`>&-`).

    Its number would go to the next file that is opened, a record file even, and what a library
    prints would be written there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            setattr(sys, name, open(file, mode, closefd=False))  # noqa: SIM115


def _require_folders() -> None:
    """Raise PrerequisiteError without a current folder or a home, which libraries ask for."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise PrerequisiteError(
            "the current folder has been deleted; change to one that exists"
        ) from error
    try:
        Path.home()
    except RuntimeError as error:
        raise PrerequisiteError(
            f"HOME is not set, and user {os.getuid()} has no home directory; set HOME to a folder "
            "that can be written to"
        ) from error


def _of_hydra() -> tuple[type[Exception], ...]:
    """Errors of the configuration; called (and Hydra imported) only when something has failed."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return HydraException, OmegaConfBaseException, YAMLError


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does: records flushed, lock released.

    The same again ends the process at once, should that hang. But a job is sent SIGTERM by its
    sweep, though Ctrl-C, or a SIGTERM to all processes of a group, may have reached it just before.
    """
    stopped = time.monotonic()

    def again(number: int, frame: FrameType | None) -> None:
        is_echo = number == signal.SIGTERM and time.monotonic() - stopped < _ECHO_SECONDS
        if number == signum and not is_echo:
            os.write(2, b"\nstopped at once; the same command goes on from the last record\n")
            os._exit(STOPPED)

    for each in (signal.SIGTERM, signal.SIGINT):
        # Not SIG_IGN: Python prints a trace for a signal that came just before it was ignored.
        signal.signal(each, again)
    raise KeyboardInterrupt
