"""Index of a video's frames, from its packets alone: nothing is decoded (1 to 5 ms for 5 s).

decord numbers packets and seeks to key frames. Its frame i is the clip's frame i only where each
packet is one shown frame and decoding can start at each key frame; `Index.doubt` says why that is
not certain of a file. Where it is empty, every frame was compared with a decode in order (see
tests/adapters/test_media_cuts.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.adapters.media.container import open_container, picture_stream, where
from ovmer.baselines.errors import Unreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Others number their frames otherwise: AVI, MPEG-TS, MPEG-PS and ASF have no or inexact times.
_CONTAINERS = ("mov,mp4", "matroska")
# decord 0.6 refuses widths whose padded rows it takes for another shape: 2, 4, ..., 24, 48 and 72
# pixels, and none above (all even widths up to 1,400 were tried).
NARROW = 80
_SAME_RATE = 0.1
"""A frame or two are missing at the ends of a cut; the header's rate is right then."""
LARGEST = 4096 * 2304
"""Pixels of a frame. decord holds dozens of frames of any size, so larger ones are not for it."""


@dataclass(frozen=True, slots=True)
class Index:
    """The video stream's frames, as listed by the file's packets."""

    stream: int
    """Its index among all streams."""
    width: int
    height: int
    fps: float
    """The average rate."""
    shown: int
    """Packets that become frames, if all can be decoded."""
    hidden: int
    """Packets that an edit list leaves out."""
    doubt: str = ""
    """Why frame numbers of decord are not certain."""


@dataclass(frozen=True, slots=True)
class _Entry:
    time: int | None
    is_key: bool
    is_hidden: bool
    opens_group: bool
    """For a key frame: whether decoding can start there, with the same parameters."""


def read_index(path: Path) -> Index:
    """Read the index of a video; MissingModality where it has no picture, Unreadable if damaged."""
    with open_container(path, decodes=False) as container:
        # The header of an MP4 file holds size and rate, but for some codings.
        if container.format.name.startswith("mov"):
            index = _read_index(path, container)
            if index.width and index.fps:
                return index
    with open_container(path) as container:
        return _read_index(path, container)


def _read_index(path: Path, container: "InputContainer") -> Index:
    stream = picture_stream(container, path)
    # decord makes room for as many frames as the header claims, and aborts.
    if stream.frames > path.stat().st_size:
        raise Unreadable(f"{where(path)} is damaged: it claims {stream.frames} frames")
    starts = _Starts(stream)
    entries = [
        _Entry(p.pts, p.is_keyframe, p.is_discard, not p.is_keyframe or starts.at(p))
        for p in container.demux(stream)
        if p.size
    ]
    shown = [entry.time for entry in entries if not entry.is_hidden]
    claimed = stream.frames or len(entries)
    doubt = _doubt_of_stream(container.format.name, stream) or _doubt_of_packets(entries)
    if not doubt and len(container.streams.video) > 1:
        doubt = "it holds several video streams"
    if not doubt and claimed != len(entries):
        doubt = f"its header claims {claimed} frames, but {len(entries)} are there"
    return Index(
        stream.index,
        stream.width,
        stream.height,
        _rate(stream, shown, len(entries) > len(shown)),
        len(shown),
        len(entries) - len(shown),
        doubt,
    )


def _rate(stream: "VideoStream", times: list[int | None], is_cut: bool) -> float:
    """The header's average rate; measured where it has none, or counts frames left out."""
    rate = float(stream.average_rate or 0)
    known = [time for time in times if time is not None]
    if (rate > 0 and not is_cut) or len(known) < 2 or not stream.time_base:
        return rate
    span = float((max(known) - min(known)) * stream.time_base)
    measured = (len(known) - 1) / span if span else rate
    return rate if abs(rate - measured) < _SAME_RATE * rate else measured


def _doubt_of_stream(container: str, stream: "VideoStream") -> str:
    codec = stream.codec_context.codec.canonical_name  # of the coding, not of who decodes it
    if not container.startswith(_CONTAINERS):
        return f"it is a file of the kind {container.partition(',')[0]}"
    if codec not in _STARTS:
        return f"its pictures are coded as {codec}"
    if container.startswith("mov") and not stream.frames:
        return "it is in fragments"
    if stream.width * stream.height > LARGEST:
        return "its frames are larger than 4K"
    return ""


def _doubt_of_packets(entries: list[_Entry]) -> str:
    times = [entry.time for entry in entries if entry.time is not None]
    if any(entry.is_hidden for entry in entries):
        return "an edit list leaves frames out"
    if len(set(times)) < len(entries):
        return "its frames have no times, or the same"
    if not entries or not entries[0].is_key:
        return "it does not begin with a key frame"
    if not all(entry.opens_group for entry in entries):
        return "its pictures change their coding, or cannot be decoded from a key frame on"
    key = times[0]
    for entry, time in zip(entries, times, strict=True):
        key = time if entry.is_key else key
        if time < key:
            return "frames before a key frame are coded after it"
    return ""


class _Starts:
    """Whether decoding can start at a key frame: read off the units of H.264 and HEVC."""

    def __init__(self, stream: "VideoStream") -> None:
        self._header = bytes(stream.codec_context.extradata or b"")
        self._codec = stream.codec_context.codec.canonical_name

    def at(self, packet: "Packet") -> bool:
        """Whether the packet begins with a picture that needs no earlier one."""
        if packet.has_sidedata("new_extradata"):
            return False
        rule = _STARTS.get(self._codec)
        if rule is None:
            return True  # such a file is doubted anyway
        if len(self._header) <= rule.length_at or self._header[0] != 1:
            return False  # units are not preceded by their lengths
        length = (self._header[rule.length_at] & 3) + 1
        types = set()
        for unit in _units(bytes(packet), length):
            kind = unit[0] >> rule.shift & rule.mask
            if kind == rule.parameters and unit not in self._header:
                return False
            types.add(kind)
        return bool(types & rule.starts)


@dataclass(frozen=True, slots=True)
class _Rule:
    """The types of units (H.264, table 7-1; HEVC, table 7-1) and where to read them."""

    length_at: int
    shift: int
    mask: int
    parameters: int
    """A sequence parameter set, which holds the size of the pictures."""
    starts: frozenset[int]


_STARTS = {
    "h264": _Rule(4, 0, 31, 7, frozenset({5})),
    "hevc": _Rule(21, 1, 63, 33, frozenset({16, 17, 18, 19, 20, 21})),
}


def _units(data: bytes, length: int) -> Iterator[bytes]:
    at = 0
    while at + length < len(data):
        size = int.from_bytes(data[at : at + length])
        if not size:
            return
        yield data[at + length : at + length + size]
        at += length + size
