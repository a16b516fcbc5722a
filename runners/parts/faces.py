"""Face crops in OpenFace's layout, detected by MTCNN (Zhang et al., 2016).

The detector is facenet-pytorch's: MIT licence, its weights (2 MB) ship in the package, and it gives
the landmarks that alignment needs. A crop is the similarity transform that brings eyes and corners
of the mouth nearest to where OpenFace's aligned faces have them: the mean of its PDM of 68 points,
scaled by `-simscale 0.7` to `-simsize 112`. Unlike OpenFace's, crops show the background too, and
frames without a face are left out instead of filled.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovmer.baselines.errors import ClipError, PrerequisiteError, Unavailable
from ovmer.baselines.gpu import release_memory
from ovmer.runners.disk import replacing
from ovmer.runners.parts.cache import PartCache

if TYPE_CHECKING:
    from ovmer.adapters.media.sampling import Rule

SIDE = 112
_EYE_X, _EYE_Y, _MOUTH_X, _MOUTH_Y = 32.9, -38.3, 28.9, 28.6
"""Of the mean shape (In-the-wild_aligned_PDM_68): centres of the eyes, corners of the mouth, in
its own unit, from the middle of the face, down is positive."""
_SCALE = 0.7
_TARGET = SIDE / 2 + _SCALE * np.array(
    [[-_EYE_X, _EYE_Y], [_EYE_X, _EYE_Y], [-_MOUTH_X, _MOUTH_Y], [_MOUTH_X, _MOUTH_Y]]
)
_LANDMARKS = [0, 1, 3, 4]  # of MTCNN's five: the nose is left out
_MOST_BYTES = 64 * 2**20
"""Of frames that each thread holds at once."""
_LONGEST_SIDE = 640
"""Frames are made smaller for detection, in pixels: MTCNN's cost grows with their area."""
_SURE = 0.95
"""Probability from which a detection counts: in 97 frames of five films that were looked at, faces
had 0.985 and more, what was no face 0.904 and less."""
IDENTITY = {"detector": "facenet-pytorch MTCNN", "threshold": _SURE, "side": SIDE, "version": 2}


class FaceFinder:
    """Finds faces; the detector is loaded with the first clip.

    Several threads may use one: they read files side by side, and the detector sees one at a time.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._detector: Any = None
        self._turn = threading.Lock()
        self.cache = PartCache("faces", IDENTITY)

    def make(self, video: Path) -> None:
        """Write the crops of a video, and what was seen, into the cache.

        A video that cannot be read is kept as such. Raises PrerequisiteError without the package.
        """
        try:
            crops, seen = self._crops(video)
        except Unavailable:
            return  # the next run may have more luck
        except ClipError as error:
            self.cache.keep(video, {"crops": 0, "error": str(error)})
            return
        if len(crops):
            with replacing(self.file(video), is_shared=True) as file:
                np.save(file, crops)
        self.cache.keep(video, {"crops": len(crops), **seen})

    def close(self) -> None:
        """Free the detector."""
        self._detector = None
        release_memory()

    def file(self, video: Path) -> Path:
        """Path of a video's crops, which may not exist yet."""
        try:
            name = self.cache.content(video)
        except OSError:
            name = "unreadable"
        return self.cache.folder / f"{name}.npy"

    def _crops(self, video: Path) -> tuple[NDArray[np.uint8], dict[str, int]]:
        """BGR crops (n x 112 x 112 x 3); how many frames there are, and the most faces in one."""
        from ovmer.adapters.media import read_frames

        with self._turn:
            detect = self._loaded().detect
        found, most = list[NDArray[np.uint8]](), 0
        first = read_frames(video, lambda count, fps: [0])
        batch = max(1, _MOST_BYTES // first.pixels.nbytes)
        for start in range(0, first.count, batch):
            indices = list(range(start, min(first.count, start + batch)))
            pixels = read_frames(video, _these(indices)).pixels
            with self._turn:
                seen = [self._faces(detect, frame) for frame in pixels]
            most = max(most, *map(len, seen))
            found += [
                aligned(frame, faces[0])[..., ::-1]
                for frame, faces in zip(pixels, seen, strict=True)
                if faces
            ]
        crops = np.stack(found) if found else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        return crops, {"frames": first.count, "most": most}

    @staticmethod
    def _faces(detect: Any, frame: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Landmarks (5 x 2, in the frame's pixels) of each face that is sure, the largest first."""
        from PIL import Image

        image = Image.fromarray(frame)
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        seen = _largest_first(*detect(image, landmarks=True))
        return [points * (frame.shape[1] / image.width) for points in seen]

    def _loaded(self) -> Any:
        if self._detector is None:
            try:
                from facenet_pytorch import MTCNN
            except ImportError as error:
                raise PrerequisiteError(
                    "faces=detect needs the package facenet-pytorch; "
                    "pip install --no-deps facenet-pytorch (its own bounds on torch are outdated)"
                ) from error
            from ovmer.baselines.device import resolve

            device = resolve(self._device, "float32").device
            self._detector = MTCNN(keep_all=True, device=device)
        return self._detector


def _these(indices: list[int]) -> "Rule":
    """The rule that picks these frames of any clip."""
    return lambda count, fps: indices


def _largest_first(boxes: Any, sure: Any, points: Any) -> list[NDArray[np.float64]]:
    """The landmarks (5 x 2) of the faces that are sure, as MTCNN's `detect` tells of one image."""
    if boxes is None:
        return []
    good = [i for i, probability in enumerate(sure) if probability >= _SURE]
    area = [(boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]) for i in range(len(boxes))]
    return [np.asarray(points[i], np.float64) for i in sorted(good, key=lambda i: -area[i])]


def aligned(pixels: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The crop (112 x 112 x 3) of a face by its landmarks (5 x 2: eyes, nose, mouth's corners)."""
    from PIL import Image

    scale, turn, shift = similarity(_TARGET, landmarks[_LANDMARKS])
    # Pillow asks for the way back: from a pixel of the crop to one of the frame.
    matrix = np.column_stack([scale * turn, shift])
    image = Image.fromarray(pixels).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(image)


def similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Scale, rotation and shift that bring points (n x 2) nearest to others (Umeyama 1991)."""
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - from_mean
    left, sizes, right = np.linalg.svd((target - to_mean).T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    turn = left @ np.diag(signs) @ right
    scale = float((sizes * signs).sum() / (centred**2).sum())
    return scale, turn, to_mean - scale * turn @ from_mean
