"""Frame sampling: one named rule for each way of the papers' code.

Every rule is a pure function of the number of frames (and, where time matters, the frame rate) and
returns indices in the order shown to the model. They differ in rounding and in whether the end of
the clip is reached, so the wrong one shifts frames silently. Where a clip has fewer frames than
asked for, some rules repeat frames and some return fewer; each says which.

The sources are the authors' copies in MERTools (MER2025_Track23, commit 89120b7) and, for models
that are not there, the models' own repositories.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil

import numpy as np

Rule = Callable[[int, float], Sequence[int]]
"""(frames in the clip, frames per second) -> indices."""


def linspace(count: int, n: int, *, rounded: bool = False) -> list[int]:
    """n indices from the first frame to the last, rounded down or (half to even) to the nearest.

    Repeats frames of short clips. Down: Video-LLaVA (languagebind processing_video.py).
    """
    points = np.linspace(0, count - 1, n)
    return [int(point) for point in (np.rint(points) if rounded else points)]


def strided(count: int, n: int) -> list[int]:
    """n indices from the first frame on in steps of count / n, rounded down; leaves out the end.

    Returns all frames of a shorter clip, in order and without repeats. Video-LLaMA and AffectGPT
    (processors/video_processor.py, `uniform`; AffectGPT then repeats the last frame up to n).
    """
    n = min(n, count)
    return [int(i * (count / n)) for i in range(n)]


def whole_steps(count: int, n: int) -> list[int]:
    """n indices in steps of a whole number of frames, count // n; the tail is not reached.

    A clip of fewer than n frames gives its first frame n times. Otter (OV-MER's main-video.py).
    """
    return [i * (count // n) for i in range(n)]


def segment_offsets(count: int, n: int) -> list[int]:
    """n indices in steps of (count - 1) / n, the first half a step in; repeats frames.

    VideoChat and VideoChat2 (demo, `get_index`), mPLUG-Owl (processing_mplug_owl.py).
    """
    step = (count - 1) / n
    return [int(step / 2) + round(step * i) for i in range(n)]


def segment_middles(count: int, n: int) -> list[int]:
    """The middle of each of n segments whose rounded ends meet; the last frame is not reached.

    At most `count` indices, some of them repeated. Video-ChatGPT (eval/model_utils.py, `get_seq`).
    """
    n = min(n, count)
    step = (count - 1) / n
    return [(round(step * i) + round(step * (i + 1))) // 2 for i in range(n)]


def segment_centres(count: int, n: int) -> list[int]:
    """n indices at the centres of n segments of (count - 1) / n frames, rounded half to even.

    Repeats frames of short clips. HumanOmni (mm_utils.py, `frame_sample`, mode uniform).
    """
    step = (count - 1) / n
    return [int(np.rint((step * i + step * (i + 1)) / 2 + 1e-6)) for i in range(n)]


def per_second(count: int, fps: float, most: int | None = None) -> list[int]:
    """One frame a second: every round(fps)-th (half to even, at least every one) from the first on.

    More than `most` are thinned evenly, rounding down. LLaMA-VID (run_llamavid.py, no limit),
    Chat-UniVi (OV-MER's main-video.py, at most 100).
    """
    indices = range(0, count, max(1, round(fps)))
    if most is None or len(indices) <= most:
        return list(indices)
    return [indices[i] for i in linspace(len(indices), most)]


def first(count: int, n: int) -> list[int]:
    """The first n frames; fewer where the clip is shorter."""
    return list(range(min(n, count)))


def window_starts(
    duration: float, seconds: int, n: int, *, reach_end: bool = False
) -> list[Fraction]:
    """Starts, in exact seconds, of n windows spread over a clip; all 0 where it is no longer.

    `reach_end` says whether the last window ends with the clip: it does in pytorchvideo's main
    branch since April 2022 (PandaGPT), not in its release 0.1.5 (Video-LLaMA, AffectGPT, OneLLM).
    Both are ConstantClipsPerVideoSampler (data/clip_sampling.py).
    """
    room = Fraction(max(duration - seconds, 0))
    return [room * i / max(n - reach_end, 1) for i in range(n)]


def windows(
    count: int, fps: float, seconds: int, n: int, per_window: int, *, reach_end: bool = False
) -> list[int]:
    """`per_window` indices, first to last and rounded down, of each of n windows; window-major.

    One of each 1 s window: OneLLM; two of each 2 s window: PandaGPT (ImageBind's data.py over
    pytorchvideo's `get_clip`, whose frames run from ceil(fps * start) up to ceil(fps * end)).
    """
    indices = []
    for start in window_starts(count / fps, seconds, n, reach_end=reach_end):
        # A float times a Fraction is a float, as upstream: exact products would round up too often.
        low = min(ceil(fps * start), count - 1)
        high = min(ceil(fps * (start + seconds)), count)
        indices += [low + i for i in linspace(max(high - low, 1), per_window)]
    return indices
