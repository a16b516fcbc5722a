"""A process that reads files for another one: `python -m ovmer.adapters.media.child FD`.

It can be ended whatever native code does, which no thread can; it imports neither torch nor a
model. The system ends it by an alarm if a file takes too long, even when its parent is gone.
"""

import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ovmer.adapters.media import wire
from ovmer.adapters.media.reading import open_reading
from ovmer.baselines.errors import ClipError

GRACE = 5.0
"""Seconds beyond the limit after which a child ends itself."""


def serve(parent: socket.socket) -> None:
    """Read files for the parent until it hangs up."""
    while True:
        request = wire.receive(parent)
        signal.setitimer(signal.ITIMER_REAL, request["limit"] + GRACE)
        try:
            _read(parent, request)
        except ClipError as error:
            wire.send(parent, {"error": type(error).__name__, "message": str(error)})
        except MemoryError:
            wire.send(parent, {"error": "OutOfMemory", "message": "not enough memory to read it"})
        except EOFError:
            raise
        except Exception as error:
            wire.send(parent, {"error": "", "message": f"{type(error).__name__}: {error}"})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _read(parent: socket.socket, request: dict[str, Any]) -> None:
    reading = open_reading(request["kind"], Path(request["path"]), request["arguments"])
    try:
        count, fps = next(reading)
        while True:
            wire.send(parent, {"count": count, "fps": fps})
            count, fps = reading.send(wire.receive(parent)["indices"])
    except StopIteration as done:
        array, facts = done.value
        wire.send_array(parent, array, facts)
    finally:
        reading.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (EOFError, OSError):
            sys.exit()
