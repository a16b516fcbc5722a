"""Frames of a clip, from a video file or from an array of face crops.

Videos are read with decord, as the models' own code does, wherever its frame numbers are exact
(index.py); else they are decoded in order (decode.py), and a note says so.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.observe import observe
from ovmer.adapters.media.reading import read
from ovmer.adapters.media.sampling import Rule
from ovmer.adapters.media.settings import settings


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of a clip, with their indices."""

    pixels: NDArray[np.uint8]
    """n x height x width x 3, RGB."""
    indices: tuple[int, ...]
    """Their indices among the frames of the clip; a rule may repeat frames."""
    fps: float
    count: int
    """Frames in the whole clip."""
    notes: tuple[str, ...] = ()
    """How they were read, where that is not by decord."""

    @property
    def seconds(self) -> tuple[float, ...]:
        """Time of each frame, at the average rate."""
        return tuple(index / self.fps for index in self.indices)


def read_frames(path: Path, rule: Rule, *, size: tuple[int, int] | None = None) -> Frames:
    """Read the frames of a clip that `rule` (see `sampling`) picks.

    `path` is a video or an array of face crops (.npy: uint8, frames x height x width x 3, in
    OpenCV's channel order BGR, which is turned round here). `size` is a (width, height) that
    decord scales to, without regard to the aspect ratio; face crops are resized as OpenCV does it.

    Raises MissingModality where there is no file or no picture in it, Timeout where reading takes
    longer than `media.seconds`, Unavailable where the system fails, Unreadable otherwise.
    """
    picked: list[tuple[tuple[int, ...], float, int]] = []

    def pick(count: int, fps: float) -> list[int]:
        indices = [int(index) for index in rule(count, fps)]
        picked.append((tuple(indices), fps, count))
        return indices

    kind = "faces" if path.suffix == ".npy" else "video"
    arguments = {"size": size} if kind == "faces" else {"size": size, "reader": settings().reader}
    pixels, facts = read(kind, path, pick, **arguments)
    indices, fps, count = picked[-1]
    frames = Frames(pixels, indices, fps, count, tuple(facts["notes"]))
    observe(frames.notes, frames)
    return frames
