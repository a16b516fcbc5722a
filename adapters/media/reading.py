"""Reading one file: in a process that can be ended, or in this one.

A file is read by a generator (see decode.Reading), which is driven here directly, or by a child
process (child.py) that is sent its indices.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ovmer.adapters.media.blank import blank_if_asked, count_read
from ovmer.adapters.media.sampling import Rule
from ovmer.adapters.media.settings import settings


def open_reading(kind: str, path: Path, arguments: dict[str, Any]) -> Any:
    """Return the generator that reads a file of a kind: video, faces, sound or nearest."""
    from ovmer.adapters.media.container import require_file

    require_file(path)
    if kind == "faces":
        from ovmer.adapters.media.faces import read_faces

        return read_faces(path, **arguments)
    if kind == "sound":
        from ovmer.adapters.media.track import read_samples

        return read_samples(path, **arguments)
    if kind == "nearest":
        from ovmer.adapters.media.nearest import read_nearest_samples

        return read_nearest_samples(path, **arguments)
    from ovmer.adapters.media.decode import read_video

    return read_video(path, **arguments)


def read(
    kind: str, path: Path, pick: Rule, **arguments: Any
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read a file, within the time limit of the settings; `pick` is asked for the indices.

    Raises ClipError: Timeout beyond the limit, and what open_reading's generators raise.
    """
    count_read()
    limit = settings().seconds
    if limit:
        from ovmer.adapters.media.pool import read_in_child

        values, facts = read_in_child(kind, path, pick, arguments, limit)
        return blank_if_asked(kind, values), facts
    reading = open_reading(kind, path, arguments)
    try:
        asked = next(reading)
        while True:
            asked = reading.send(pick(*asked))
    except StopIteration as done:
        values, facts = done.value
        if not values.flags.writeable:  # memory of the reader's, see decode.py
            values = values.copy()
        return blank_if_asked(kind, values), facts
    finally:
        reading.close()
