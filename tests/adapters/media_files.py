"""Small videos and sounds made on the spot, good and bad."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

SHARED = Path(__file__).parents[3] / "shared"


def greys(count: int, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """Frames whose brightness tells their number: frame i is 5 i everywhere."""
    levels = np.arange(count, dtype=np.uint8) * 5
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(pixels: NDArray[np.uint8]) -> list[int]:
    """Which of `greys` these are, give or take what lossy coding changes."""
    levels = pixels.reshape(len(pixels), -1).mean(axis=1)
    return [round(level / 5) for level in levels]


def write_video(
    path: Path,
    pictures: NDArray[np.uint8],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: int = 25,
    times: list[int] | None = None,
) -> Path:
    """A video without sound; `times` places frames on a clock of 1/fps, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, fps)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        stream.bit_rate = 1_000_000  # plenty, so that brightness survives
        stream.time_base = Fraction(1, fps)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound_only(path: Path, seconds: float = 1.0, rate: int = 44_100) -> Path:
    """A video file that holds a sound track and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(seconds, rate)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tone(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def write_wav(
    path: Path, samples: NDArray[np.float32], rate: int, subtype: str = "FLOAT", **options: str
) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype, **options)
    return path


def rotated(data: bytes) -> bytes:
    """An mp4 whose header says that it is to be shown turned by a quarter."""
    at = data.index(b"tkhd") + 44
    turn = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    return data[:at] + turn + data[at + 36 :]


def with_frame_count(data: bytes, count: int) -> bytes:
    """An mp4 whose table of times claims `count` frames."""
    at = data.index(b"stts") + 12
    return data[:at] + struct.pack(">I", count) + data[at + 4 :]
