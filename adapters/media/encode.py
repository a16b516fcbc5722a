"""Frames and sound as small files in memory, to be sent to a server."""

import io
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.frames import Frames
from ovmer.adapters.media.resample import Samples

_CRF = "18"  # x264's constant quality: hardly distinguishable from the original


def jpeg(frame: NDArray[np.uint8], longest_side: int, quality: int) -> bytes:
    """A frame (height x width x 3, RGB), made smaller where a side is longer than that."""
    file = io.BytesIO()
    _small(frame, longest_side).save(file, "JPEG", quality=quality)
    return file.getvalue()


def mp4(frames: Frames, longest_side: int) -> bytes:
    """The frames as H.264, shown at the times that they have in the clip (on average)."""
    import av

    images = [_small(frame, longest_side, even=True) for frame in frames.pixels]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_rate(frames))
        stream.width, stream.height = images[0].size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": _CRF}
        stream.thread_count = 1  # clips are encoded side by side
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return file.getvalue()


def wav(samples: Samples, rate: int) -> bytes:
    """Mono samples [n] in 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _small(frame: NDArray[np.uint8], longest_side: int, *, even: bool = False) -> Any:
    """Convert to an image of Pillow; `even` for H.264, which halves the sides of its colours."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    step = 2 if even else 1
    size = tuple(max(step, round(side * scale / step) * step) for side in (width, height))
    image = Image.fromarray(frame)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _rate(frames: Frames) -> Fraction:
    """Frames a second of the pictures that were taken from the clip."""
    span = frames.indices[-1] - frames.indices[0]
    rate = frames.fps * (len(frames.indices) - 1) / span if span else 1.0
    return Fraction(rate).limit_denominator(1000) or Fraction(1, 1000)
