"""What a media file holds, told without decoding it: how long it is, whether it has picture, sound.

A file is opened and its first frame decoded, which takes some milliseconds and finds files that are
empty, cut at the head or of another kind. Rot further in is found only by decoding everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Probe:
    """What stands in one file."""

    seconds: float = 0.0
    has_picture: bool = False
    has_sound: bool = False
    problem: str | None = None
    """Why it cannot be read, in a few words; then the rest says nothing."""


def probe(path: Path) -> Probe:
    """Look into a video, sound or .npy file; never raises for what is wrong with it."""
    try:
        if path.stat().st_size == 0:
            return Probe(problem="is empty")
        return _READERS.get(path.suffix.lower(), _media)(path)
    except (OSError, ValueError, EOFError, RuntimeError) as error:  # PyAV's are some of these
        told = getattr(error, "strerror", None) or str(error)
        return Probe(problem=str(told).splitlines()[0])


def _media(path: Path) -> Probe:
    import av

    with av.open(str(path)) as container:
        kinds = {stream.type: stream for stream in container.streams}
        first = kinds.get("video") or kinds.get("audio")
        if first is None:
            return Probe(problem="holds neither picture nor sound")
        if next(container.decode(first), None) is None:
            return Probe(problem="holds no frame that can be decoded")
        seconds = (container.duration or 0) / av.time_base
        return Probe(seconds, "video" in kinds, "audio" in kinds)


def _array(path: Path) -> Probe:
    """Face crops: frames x height x width x 3."""
    import numpy as np

    faces = np.load(path, mmap_mode="r", allow_pickle=False)
    if faces.ndim != 4 or not len(faces):
        return Probe(problem=f"has the shape {faces.shape}, not frames x height x width x 3")
    return Probe(has_picture=True)


_READERS: Mapping[str, Callable[[Path], Probe]] = {".npy": _array}
