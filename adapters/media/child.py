"""A process that reads files for another one: `python -m ovmer.adapters.media.child SOCKET WINDOW`,
both descriptors.

It can be ended whatever native code does, which no thread can; it imports neither torch nor a
model. The system ends it by an alarm if a file takes too long, even when its parent is gone.
"""

import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ovmer.adapters.media.reading import open_reading
from ovmer.adapters.media.wire import Channel
from ovmer.baselines.errors import ClipError

GRACE = 5.0
"""Seconds beyond the limit after which a child ends itself."""


def serve(parent: Channel) -> None:
    """Read files for the parent until it hangs up."""
    while True:
        request = parent.receive()
        signal.setitimer(signal.ITIMER_REAL, request["limit"] + GRACE)
        try:
            _read(parent, request)
        except ClipError as error:
            parent.send({"error": type(error).__name__, "message": str(error)})
        except MemoryError:
            parent.send({"error": "OutOfMemory", "message": "not enough memory to read it"})
        except EOFError:
            raise
        except Exception as error:
            parent.send({"error": "", "message": f"{type(error).__name__}: {error}"})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _read(parent: Channel, request: dict[str, Any]) -> None:
    reading = open_reading(request["kind"], Path(request["path"]), request["arguments"])
    try:
        count, fps = next(reading)
        while True:
            parent.send({"count": count, "fps": fps})
            count, fps = reading.send(parent.receive()["indices"])
    except StopIteration as done:
        array, facts = done.value
        parent.send_array(array, facts)
    finally:
        reading.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    try:
        serve(channel)
    except (EOFError, OSError):
        sys.exit()
