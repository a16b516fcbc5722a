"""Errors as one sentence and the exit status, for every command.

    0    all is well
    1    it ran, but a clip failed or a job of the sweep died
    2    it could not start, or could not go on: the sentence says what to fix
    130  stopped; what was finished is kept, and the same command goes on from there

`OVMER_DEBUG=1` shows the stack trace as well.
"""

import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from ovmer.baselines.errors import ClipError, PrerequisiteError

FINE, FAILED, UNABLE, STOPPED = 0, 1, 2, 130

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def command(body: Callable[[], int]) -> Callable[[], NoReturn]:
    """Decorator of a command's `main`: exits with the status that `body` returns."""

    @functools.wraps(body)
    def main() -> NoReturn:
        sys.exit(run(body))

    return main


def run(body: Callable[[], int], who: str = "") -> int:
    """Run `body` and return its exit status; an error that the user can fix becomes one sentence.

    `who` goes before the sentence where several jobs speak.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _stop)
    try:
        status = body()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return _say(f"{who}the output was closed before all was written to it", FAILED)
    except KeyboardInterrupt:
        return _say(f"{who}stopped; what was finished is kept, the same command goes on", STOPPED)
    except ClipError as error:
        return _say(f"{who}{error}", FAILED)
    except PrerequisiteError as error:
        return _say(f"{who}{error}", UNABLE)
    except _of_hydra() as error:  # before OSError, which some of these are too
        from ovmer.runners.explain import explain

        return _say(f"{who}{explain(error)}", UNABLE)
    except OSError as error:
        if error.filename is None and error.errno not in _OF_THE_DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{who}{where}{error.strerror}; fix this and run again", UNABLE)


def _of_hydra() -> tuple[type[Exception], ...]:
    """Errors of the configuration; called (and Hydra imported) only when something has failed."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return HydraException, OmegaConfBaseException, YAMLError


def _say(sentence: str, status: int) -> int:
    if os.environ.get("OVMER_DEBUG") == "1":
        traceback.print_exc()
    print(sentence, file=sys.stderr)
    return status


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does: records flushed, lock released; while it does, both rest.

    A sweep that is stopped passes SIGTERM on to a job that Ctrl-C has reached already.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
