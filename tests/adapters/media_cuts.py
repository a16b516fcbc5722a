"""Videos as data sets hold them: containers x codecs x cuts, made with PyAV.

Frame i shows its number as twelve black or white bars, so that wrong frames are told by looking.
`FILES` names all; `make` writes one of them.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 25
BITS = 12
HEIGHT, WIDTH = 96, 192


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A frame that shows its number: bars for its bits, a grey band for its low four bits."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    bars = np.repeat(np.array(bits, np.uint8), width // BITS)
    return np.broadcast_to(bars[None, :, None], (height, width, 3)).copy()


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number that a frame shows, whatever its size."""
    width = frame.shape[1] // BITS
    middle = frame[frame.shape[0] // 2].mean(axis=-1)
    bars = [
        middle[bit * width + width // 3 : (bit + 1) * width - width // 3] for bit in range(BITS)
    ]
    return sum(int(bar.mean() > 127) << bit for bit, bar in enumerate(bars))


@dataclass(frozen=True)
class Source:
    """How a video is encoded."""

    suffix: str
    codec: str
    seconds: int = 12
    options: tuple[tuple[str, str], ...] = ()
    b_frames: int | None = None
    gop: int = 50
    pixels: str = "yuv420p"
    muxing: tuple[tuple[str, str], ...] = ()
    second_size: tuple[int, int] | None = None
    """The (width, height) of a second half."""


@dataclass(frozen=True)
class Cut:
    """What becomes of it: copied from `start` on for `seconds`, from a key frame or between."""

    start: float = 0.0
    seconds: float = 4.0
    hides: bool = True
    """Whether frames from the key frame on are kept, and left out by their negative times."""


WHOLE = None
BETWEEN = Cut(3.3)
LATE = Cut(7.7, 2.0)
NO_KEY = Cut(3.3, hides=False)

H264 = Source(".mp4", "libx264", options=(("preset", "ultrafast"),), b_frames=2)
X264 = partial(replace, H264)
SOURCES = {
    "h264": H264,
    "h264_no_b": X264(b_frames=0),
    "h264_pyramid": X264(
        options=(("preset", "veryfast"), ("x264-params", "b-pyramid=normal:bframes=5"))
    ),
    "h264_open_gop": X264(
        options=(("preset", "ultrafast"), ("x264-params", "open-gop=1:bframes=3"))
    ),
    "h264_intra_refresh": X264(
        options=(("preset", "ultrafast"), ("x264-params", "intra-refresh=1")), b_frames=0
    ),
    "h264_interlaced": X264(options=(("preset", "ultrafast"), ("x264-params", "interlaced=1"))),
    "h264_one_gop": X264(gop=9999),
    "h264_fragments": X264(muxing=(("movflags", "frag_keyframe+empty_moov"),)),
    "h264_faststart": X264(muxing=(("movflags", "faststart"),)),
    "h264_size_changes": X264(suffix=".mkv", second_size=(288, 144)),
    "h264_mov": X264(suffix=".mov"),
    "h264_mkv": X264(suffix=".mkv"),
    "h264_ts": X264(suffix=".ts"),
    "h264_flv": X264(suffix=".flv"),
    "h264_avi": X264(suffix=".avi", b_frames=0),
    "hevc": Source(
        ".mp4",
        "libx265",
        options=(("preset", "ultrafast"), ("x265-params", "log-level=none")),
        seconds=8,
    ),
    "hevc_closed": Source(
        ".mp4",
        "libx265",
        options=(("preset", "ultrafast"), ("x265-params", "open-gop=0:log-level=none")),
        seconds=8,
    ),
    "hevc_mkv": Source(
        ".mkv",
        "libx265",
        options=(("preset", "ultrafast"), ("x265-params", "log-level=none")),
        seconds=8,
    ),
    "mpeg4": Source(".mp4", "mpeg4", b_frames=0),
    "mpeg4_b": Source(".mp4", "mpeg4", b_frames=2),
    "xvid_avi": Source(".avi", "mpeg4", b_frames=0),
    "xvid_avi_b": Source(".avi", "mpeg4", b_frames=2),
    "mpeg2_ps": Source(".mpg", "mpeg2video", b_frames=2, gop=12),
    "mpeg2_ts": Source(".ts", "mpeg2video", b_frames=2, gop=12),
    "mpeg1_ps": Source(".mpeg", "mpeg1video", b_frames=2, gop=12),
    "wmv": Source(".wmv", "wmv2", b_frames=0),
    "vp9": Source(
        ".webm", "libvpx-vp9", seconds=4, options=(("cpu-used", "8"), ("deadline", "realtime"))
    ),
    "vp8": Source(".webm", "libvpx", seconds=4, options=(("cpu-used", "8"), ("auto-alt-ref", "1"))),
    "mjpeg_avi": Source(".avi", "mjpeg", pixels="yuvj420p"),
    "mjpeg_mov": Source(".mov", "mjpeg", pixels="yuvj420p"),
}
_CUTS: dict[str, Cut | None] = {"whole": WHOLE, "between": BETWEEN, "late": LATE, "no_key": NO_KEY}
_EVERY_CUT = {"h264", "h264_pyramid", "h264_open_gop", "h264_mov", "mpeg4_b", "h264_ts", "h264_mkv"}
_TWO_CUTS = {
    "h264_no_b", "h264_one_gop", "mpeg4", "xvid_avi_b", "wmv", "mpeg2_ts", "h264_intra_refresh",
    "h264_interlaced", "h264_faststart",
}  # fmt: skip
FILES = {
    f"{source}-{cut}": (SOURCES[source], _CUTS[cut])
    for source in SOURCES
    for cut in (
        list(_CUTS)
        if source in _EVERY_CUT
        else ["whole", "between"]
        if source in _TWO_CUTS
        else ["whole"]
    )
}


def make(name: str, folder: Path) -> Path:
    """Write the file of that name; a source that is cut is made once a folder."""
    source, cut = FILES[name]
    whole = folder / f"{name.partition('-')[0]}-whole{source.suffix}"
    if not whole.exists():
        _encode(whole, source)
    if cut is None:
        return whole
    return _copy(whole, folder / f"{name}{source.suffix}", cut)


def _encode(path: Path, source: Source) -> None:
    with av.open(str(path), "w", options=dict(source.muxing)) as container:
        stream = container.add_stream(source.codec, RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, source.pixels
        stream.codec_context.gop_size = source.gop
        stream.bit_rate = 2_000_000
        stream.thread_count = 1
        if source.b_frames is not None:
            stream.codec_context.max_b_frames = source.b_frames
        stream.options = dict(source.options)
        count = source.seconds * RATE
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if source.second_size:
        _join_sizes(path, source)


def _join_sizes(path: Path, source: Source) -> None:
    """Append the same video at another size, its parameter sets inside the stream."""
    first, second = path.with_name("first.ts"), path.with_name("second.ts")
    for part, (width, height) in ((first, (WIDTH, HEIGHT)), (second, source.second_size or (0, 0))):
        with av.open(str(part), "w") as container:
            stream = container.add_stream("libx264", RATE)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options, stream.codec_context.gop_size = dict(source.options), source.gop
            for number in range(source.seconds * RATE // 2):
                shown = number + (part == second) * source.seconds * RATE // 2
                frame = av.VideoFrame.from_ndarray(numbered(shown, height, width), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    joined = path.with_name("joined.ts")
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(joined)) as container, av.open(str(path), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        shift = last = 0
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            if packet.dts + shift < last:
                shift = last + 3600 - packet.dts
            last = packet.dts + shift
            packet.dts, packet.pts = packet.dts + shift, (packet.pts or 0) + shift
            packet.stream = copy
            out.mux(packet)


def _copy(source: Path, path: Path, cut: Cut) -> Path:
    """As `ffmpeg -ss START -i SOURCE -t SECONDS -c copy` does."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        begin = (stream.start_time or 0) + round(cut.start / base)
        if cut.hides:
            container.seek(begin, stream=stream)
        copy = out.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            if not cut.hides and packet.dts < begin:
                continue
            if packet.dts >= begin + round(cut.seconds / base):
                break
            packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
            packet.stream = copy
            out.mux(packet)
    return path
