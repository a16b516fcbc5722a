"""Frames of a clip, from a video file or from an array of face crops.

Videos are read with decord, as the models' own code does: the same frame for the same index (where
an edit list hides frames, decord counts them too) and, when a model asks decord for a size, the
same scaling on the YUV picture, which no resizing of RGB frames reproduces. Rotation in the
metadata is applied; a variable rate is read frame by frame; damage that the decoder conceals (a
few overwritten bytes) counts as readable, a frame that cannot be decoded makes the clip Unreadable.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.container import open_container, require_codec, require_file, where
from ovmer.adapters.media.sampling import Rule
from ovmer.baselines.errors import MissingModality, Unreadable

# Arrays of face crops carry no rate. OpenFace writes one crop a frame, and 25 frames a second is
# our assumption for them; it matters only to the rules that count seconds.
_FACE_RATE = 25.0
# decord 0.6 refuses widths whose padded rows it takes for another shape: 2, 4, ..., 24, 48 and 72
# pixels, and none above (all even widths up to 1,400 were tried).
_NARROW = 80
# What decord's messages begin with: "[12:00:00] /its/own/source.cc:100: [/the/clip.mp4] ".
_DECORD_PLACE = re.compile(r".*\.cc:\d+: (\[[^]]*\] ?)?")


Whole = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Frames:
    """Some frames of a clip and where they came from."""

    pixels: NDArray[np.uint8]
    """n x height x width x 3, RGB."""
    indices: tuple[int, ...]
    """Their places among the frames of the clip; a rule may repeat frames."""
    fps: float
    count: int
    """Frames in the whole clip."""

    @property
    def seconds(self) -> tuple[float, ...]:
        """When each frame is shown, at the average rate."""
        return tuple(index / self.fps for index in self.indices)


def read_frames(path: Path, rule: Rule, *, size: tuple[int, int] | None = None) -> Frames:
    """The frames of a clip that `rule` (see `sampling`) picks.

    `path` is a video or an array of face crops (.npy: uint8, frames x height x width x 3, in
    OpenCV's channel order BGR, which is turned round here). `size` is a (width, height) that
    decord scales to, without regard to the aspect ratio; face crops are resized as OpenCV does it.

    Raises MissingModality where there is no file or no picture in it, Unreadable otherwise.
    """
    require_file(path)
    if path.suffix == ".npy":
        return _read_faces(path, rule, size)
    return _read_video(path, rule, size)


def _read_video(path: Path, rule: Rule, size: tuple[int, int] | None) -> Frames:
    width = _check_video(path)
    if width < _NARROW and size is None:
        return _read_narrow(path, rule)
    decord = _decord()
    wide, high = size or (-1, -1)
    try:
        # One thread: clips are decoded side by side, and short ones gain nothing from more.
        reader = decord.VideoReader(
            str(path.absolute()), ctx=decord.cpu(0), width=wide, height=high, num_threads=1
        )
        count, fps = len(reader), float(reader.get_avg_fps())
        if count == 0 or not 0 < fps < math.inf:
            raise Unreadable(f"{where(path)} has no frames, or no frame rate")
        indices = tuple(rule(count, fps))
        pixels = reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        reason = _DECORD_PLACE.sub("", str(error).partition("\n")[0])[:120]
        raise Unreadable(f"{where(path)} cannot be decoded ({reason})") from error
    return Frames(pixels, indices, fps, count)


def _check_video(path: Path) -> int:
    """The width of the picture; refuses what decord would answer by ending the process."""
    with open_container(path) as container:
        if not container.streams.video:
            raise MissingModality(f"{where(path)} holds no picture, only sound")
        stream = container.streams.video[0]
        require_codec(stream, path)
        if stream.frames > path.stat().st_size:  # decord makes room for them all and aborts
            raise Unreadable(f"{where(path)} is damaged: it claims {stream.frames} frames")
        return stream.width


def _read_narrow(path: Path, rule: Rule) -> Frames:
    """With PyAV, whose RGB frames at their own size are decord's bit for bit."""
    with open_container(path) as container:
        fps = float(container.streams.video[0].average_rate or 0)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not frames or fps <= 0:
        raise Unreadable(f"{where(path)} has no frames, or no frame rate")
    indices = tuple(rule(len(frames), fps))
    return Frames(np.stack([frames[i] for i in indices]), indices, fps, len(frames))


@cache
def _decord() -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _read_faces(path: Path, rule: Rule, size: tuple[int, int] | None) -> Frames:
    try:
        # Mapped, so that only the frames asked for are read from the disk.
        faces = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Unreadable(f"{where(path)} is no array that numpy can read") from error
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[-1] != 3:
        raise Unreadable(
            f"{where(path)} holds {faces.dtype} {'x'.join(map(str, faces.shape))}, "
            "not uint8 frames x height x width x 3"
        )
    if 0 in faces.shape:
        raise Unreadable(f"{where(path)} holds no frames")
    indices = tuple(rule(len(faces), _FACE_RATE))
    pixels = np.ascontiguousarray(faces[list(indices)][..., ::-1])
    if size is not None:
        pixels = np.stack([_resize(each, size) for each in pixels])
    return Frames(pixels, indices, _FACE_RATE, len(faces))


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """OpenCV's `resize` with its default settings, bit for bit, to (width, height).

    Bilinear between the nearest two pixels either way, also where the picture becomes smaller, in
    whole numbers (imgproc/src/resize.cpp). So does the authors' code (AffectGPT, load_face).
    """
    (wide, high), (height, width) = size, image.shape[:2]
    if (width, height) == size:
        return image
    if (width, height) == (2 * wide, 2 * high):  # there it takes the mean of four
        fours = image.reshape(high, 2, wide, 2, 3).sum(axis=(1, 3), dtype=np.int32)
        return ((fours + 2) >> 2).astype(np.uint8)
    pair, weights = _neighbours(width, wide)
    weights[:, pair[0] == pair[1]] = [[2048], [0]]  # along rows, but not along columns
    rows = (image[:, pair] * weights[None, :, :, None]).sum(axis=1)
    pair, weights = _neighbours(height, high)
    found = ((rows[pair] >> 4) * weights[:, :, None, None] >> 16).sum(axis=0)
    return ((found + 2) >> 2).clip(0, 255).astype(np.uint8)


def _neighbours(length: int, target: int) -> tuple[Whole, Whole]:
    """The two pixels around each of `target` places, and their weights in 2048ths; both 2 x n."""
    place = ((np.arange(target) + 0.5) * (length / target) - 0.5).astype(np.float32)
    low = np.floor(place)
    beyond = place - low
    pair = np.stack([low, low + 1]).astype(np.int32).clip(0, length - 1)
    return pair, np.rint(np.stack([1 - beyond, beyond]) * 2048).astype(np.int32)
