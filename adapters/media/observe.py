"""Records what is read while a clip is prepared: notes for its record, and its frames.

Adapters call `read_frames` and `read_sound` and need not pass anything on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovmer.adapters.media.frames import Frames


@dataclass
class Observed:
    """Media that this thread has read inside `observing`."""

    keeps_frames: bool
    notes: list[str] = field(default_factory=list)
    frames: "list[Frames]" = field(default_factory=list)


_observed: ContextVar[Observed | None] = ContextVar("observed", default=None)


@contextmanager
def observing(*, keeps_frames: bool = False) -> Iterator[Observed]:
    """Collect the notes, and with `keeps_frames` the frames, of whatever this thread reads."""
    observed = Observed(keeps_frames)
    token = _observed.set(observed)
    try:
        yield observed
    finally:
        _observed.reset(token)


def observe(notes: Sequence[str], frames: "Frames | None" = None) -> None:
    """Add to what is being collected, if anything is; each note once."""
    observed = _observed.get()
    if observed is None:
        return
    observed.notes += [note for note in notes if note not in observed.notes]
    if frames is not None and observed.keeps_frames:
        observed.frames.append(frames)


def write_frames(observed: Observed, folder: Path, clip: str) -> None:
    """Write the frames that were read of a clip as PNG files, in the order shown.

    A file's name holds the clip's, the order, the frame's index and its time in seconds.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    clip = clip.replace("/", "__")  # clips in subfolders are called by their paths
    for frames in observed.frames:
        shown = zip(frames.indices, frames.seconds, frames.pixels, strict=True)
        for order, (index, seconds, pixels) in enumerate(shown):
            name = f"{clip}-{order:03}-frame{index}-{seconds:.2f}s.png"
            Image.fromarray(pixels).save(folder / name)
