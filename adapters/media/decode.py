"""Decoding chosen frames of a video, by decord where its answer is certain, else in order.

Both are generators (a `Reading`): they yield the number of frames and the rate, are sent indices,
and return pixels. So a process that reads need not know the rule that picks.

The frames of a clip are those that a decode in order shows. Rotation in the metadata is applied,
interlaced pictures stay woven, transparency and bits beyond the eighth are dropped. Damage that the
decoder conceals counts as readable; a frame that cannot be decoded makes the clip Unreadable.
"""

import math
import re
from collections.abc import Generator, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.container import open_container, unreadable, where
from ovmer.adapters.media.index import LARGEST, NARROW, Index, read_index
from ovmer.baselines.errors import Unreadable

if TYPE_CHECKING:
    from av import VideoFrame

Pixels = NDArray[np.uint8]
Size = tuple[int, int] | None
Reading = Generator[tuple[int, float], Sequence[int], tuple[NDArray[Any], dict[str, Any]]]
"""Yields (frames, rate), is sent indices, returns an array and what is known of it."""

MOST_BYTES = 1 << 30
"""Of one clip's frames or samples; more are read smaller, or cut, with a note."""

# What decord's messages begin with: "[12:00:00] /its/own/source.cc:100: [/the/clip.mp4] ".
_DECORD_PREFIX = re.compile(r".*\.cc:\d+: (\[[^]]*\] ?)?")


def read_video(path: Path, size: Size, reader: str) -> Reading:
    """Frames of a video; `reader` is auto (decord where exact), decord or pyav."""
    index = read_index(path)
    if index.shown == 0 or not 0 < index.fps < math.inf:
        raise Unreadable(f"{where(path)} has no frames, or no frame rate")
    is_narrow = index.width < NARROW and size is None
    if not is_narrow and (reader == "decord" or (reader == "auto" and not index.doubt)):
        pixels = yield from _with_decord(path, size, None if reader == "decord" else index)
        if pixels is not None:
            doubt = index.doubt and f"frames as decord numbers them, although {index.doubt}"
            return pixels, {"notes": [doubt] if doubt else []}
    return (yield from _in_order(path, index, size))


def _with_decord(
    path: Path, size: Size, index: Index | None = None
) -> Generator[tuple[int, float], Sequence[int], Pixels | None]:
    """Read as the models' own code does, with the same scaling on the YUV picture.

    With `index` None is returned where decord counts other frames, or they take too much memory.
    """
    decord = _decord()
    wide, high = size or (-1, -1)
    try:
        # One thread: clips are decoded side by side, and short ones gain nothing from more.
        reader = decord.VideoReader(
            str(path.absolute()), ctx=decord.cpu(0), width=wide, height=high, num_threads=1
        )
        count, fps = len(reader), float(reader.get_avg_fps())
        if index is not None and count != index.shown:
            return None
        if count == 0 or not 0 < fps < math.inf:
            raise Unreadable(f"{where(path)} has no frames, or no frame rate")
        indices = tuple((yield count, fps))
        if index is not None and _scale((index.width, index.height), size, len(indices)) < 1:
            return None
        return np.asarray(np.from_dlpack(_Lent(reader.get_batch(indices))), np.uint8)
    except (decord.DECORDError, RuntimeError) as error:
        reason = _DECORD_PREFIX.sub("", str(error).partition("\n")[0])[:120]
        raise unreadable(path, f"cannot be decoded ({reason})") from error


class _Lent:
    """An array of decord that numpy reads in place: copying frames of 640 x 360 costs 3 %."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU


@cache
def _decord() -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _in_order(path: Path, index: Index, size: Size) -> Reading:
    """Read all frames in order with PyAV; twice if packets and frames differ in number.

    Frames at their own size are decord's bit for bit; scaled ones differ from its by at most 2 of
    255, since it brings an older FFmpeg.
    """
    count = index.shown
    while True:
        indices = tuple((yield count, index.fps))
        scale = _scale((index.width, index.height), size, len(indices))
        target = size
        if scale < 1:
            target = (max(1, int(index.width * scale)), max(1, int(index.height * scale)))
        frames, found, before = _decode(path, index.stream, set(indices), target)
        if found == 0:
            raise Unreadable(f"{where(path)} is damaged: none of its frames can be decoded")
        if found == count:
            break
        count = found
    notes = []
    if index.doubt:
        notes.append(f"frames read in order with PyAV, not decord: {index.doubt}")
    if index.hidden:
        notes.append(f"frames that the edit list hides were left out: {index.hidden}")
    if before:
        notes.append(f"packets before the first whole picture were left out: {before}")
    if scale < 1 and target:
        notes.append(f"the frames were read at {target[0]} x {target[1]} pixels to save memory")
    return np.stack([frames[i] for i in indices]), {"notes": notes}


def _scale(picture: tuple[int, int], size: Size, count: int) -> float:
    """By how much sides must shrink so that the frames stay within bounds; 1 for nearly all."""
    if size is not None:
        return 1.0
    pixels = picture[0] * picture[1]
    most = min(LARGEST, MOST_BYTES / 3 / max(count, 1))
    return min(1.0, math.sqrt(most / max(pixels, 1)))


def _decode(
    path: Path, number: int, wanted: set[int], size: Size
) -> tuple[dict[int, Pixels], int, int]:
    """The wanted frames, how many there are in all, and packets before the first one."""
    from av import VideoFrame
    from av.error import InvalidDataError

    frames: dict[int, Pixels] = {}
    found = before = 0
    with open_container(path) as container:
        stream = container.streams[number]
        stream.codec_context.thread_count = 1
        convert = _Converter(size)
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except InvalidDataError:
                if found:
                    raise
                before += 1  # a cut begins between key frames
                continue
            for frame in decoded:
                assert isinstance(frame, VideoFrame)
                if found in wanted:
                    frames[found] = convert(frame)
                found += 1
    return frames, found, before


class _Converter:
    """Frames to RGB at one size, rotated as the metadata says."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._own: Size = None
        """The size of the first frame, which later ones are scaled to."""

    def __call__(self, frame: "VideoFrame") -> Pixels:
        turns = round(frame.rotation / 90) % 4
        if self._own is None:
            self._own = (frame.width, frame.height)
        target = self._size or self._own
        if self._size and turns % 2:
            target = target[::-1]
        # PyAV's own conversion is decord's bit for bit, but blurs the colours of more than eight
        # bits into their neighbours. The filters give decord's pixels for both and are slower.
        is_plain = all(component.bits == 8 for component in frame.format.components)
        if is_plain and target == (frame.width, frame.height):
            pixels = frame.to_ndarray(format="rgb24")
        else:
            pixels = _scaled(frame, target)
        return np.ascontiguousarray(np.rot90(pixels, turns))


def _scaled(frame: "VideoFrame", size: tuple[int, int]) -> Pixels:
    """decord's filters: bilinear scaling before the conversion to RGB."""
    from av.filter import Graph

    graph = Graph()
    steps = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 25),
        ),
        graph.add("scale", f"{size[0]}:{size[1]}:flags=bilinear"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ]
    for before, after in pairwise(steps):
        before.link_to(after)
    graph.configure()
    graph.push(frame)
    pulled = graph.pull()
    return cast(Pixels, pulled.to_ndarray())
