"""Frames from an array of face crops (.npy), in RGB and resized as OpenCV does it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.container import unreadable, where
from ovmer.adapters.media.decode import MOST_BYTES, Reading, Size
from ovmer.baselines.errors import Unreadable

# Arrays of face crops carry no rate. OpenFace writes one crop a frame, and 25 frames a second is
# our assumption for them; it matters only to the rules that count seconds.
FACE_RATE = 25.0

Whole = NDArray[np.int32]


def read_faces(path: Path, size: Size) -> Reading:
    """Face crops (uint8, frames x height x width x 3 in OpenCV's order BGR), as RGB."""
    try:
        # Mapped, so that only the frames asked for are read from the disk.
        faces = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, "is no array that numpy can read") from error
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[-1] != 3:
        raise Unreadable(
            f"{where(path)} holds {faces.dtype} {'x'.join(map(str, faces.shape))}, "
            "not uint8 frames x height x width x 3"
        )
    if 0 in faces.shape:
        raise Unreadable(f"{where(path)} holds no frames")
    indices = tuple((yield len(faces), FACE_RATE))
    if len(indices) * faces[0].nbytes > MOST_BYTES:
        raise Unreadable(f"{where(path)} holds faces of {faces[0].nbytes >> 20} MB each")
    pixels = np.ascontiguousarray(faces[list(indices)][..., ::-1])
    if size is not None:
        pixels = np.stack([_resize(each, size) for each in pixels])
    return pixels, {"notes": []}


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
    """The two pixels around each target position, and their weights in 2048ths; both 2 x n."""
    position = ((np.arange(target) + 0.5) * (length / target) - 0.5).astype(np.float32)
    low = np.floor(position)
    beyond = position - low
    pair = np.stack([low, low + 1]).astype(np.int32).clip(0, length - 1)
    return pair, np.rint(np.stack([1 - beyond, beyond]) * 2048).astype(np.int32)
