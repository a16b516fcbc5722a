"""Blank media: a black picture or silence instead of a file's content, of the same length.

`read_frames`, `read_sound` and the like return zeros within `blanking`, in
the shape of the real thing, so that nothing but the content of a clip is taken away.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICTURE, SOUND = "picture", "sound"
_MEDIUM = {"video": PICTURE, "faces": PICTURE, "sound": SOUND, "nearest": SOUND}


@dataclass
class Blanked:
    """Media that this thread reads as blank inside `blanking`."""

    media: frozenset[str]
    reads: int = 0
    """Files that were opened, blank or not: whoever opens none reads in a way of its own."""


_blanked: ContextVar[Blanked | None] = ContextVar("blanked", default=None)


@contextmanager
def blanking(media: Collection[str]) -> Iterator[Blanked]:
    """Read files of these media (PICTURE, SOUND) as blank in this thread."""
    blanked = Blanked(frozenset(media))
    token = _blanked.set(blanked)
    try:
        yield blanked
    finally:
        _blanked.reset(token)


def count_read() -> None:
    """Note that this thread opens a file."""
    if (blanked := _blanked.get()) is not None:
        blanked.reads += 1


def blank_if_asked(kind: str, values: NDArray[Any]) -> NDArray[Any]:
    """`values` as read from a file of a kind (reading.py), or zeros instead."""
    blanked = _blanked.get()
    if blanked is None or _MEDIUM[kind] not in blanked.media:
        return values
    return np.zeros_like(values)
