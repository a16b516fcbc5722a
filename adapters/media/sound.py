"""Sound of a clip as float32 samples, from a sound file or from the sound track of a video.

Files are read by track.py in a process of its own; here their samples are checked, brought to a
model's rate (resample.py) and cut into windows.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from ovmer.adapters.media.container import where
from ovmer.adapters.media.observe import observe
from ovmer.adapters.media.reading import read
from ovmer.adapters.media.resample import Resampling, Samples, resample
from ovmer.adapters.media.sampling import window_starts
from ovmer.baselines.errors import Unreadable

Channels = Literal["mean", "first", "all"]
"""How channels are combined: their mean, the first alone (SALMONN), or all as they are."""

_LOUDEST = 100.0  # full scale is 1; floating point files may exceed it a little


def read_sound(
    path: Path,
    rate: int,
    *,
    channels: Channels = "mean",
    resampling: Resampling = "soxr_hq",
    max_seconds: float | None = None,
    min_seconds: float = 0.0,
) -> Samples:
    """Read samples of a sound file, or of a video's sound track, at `rate` per second.

    Shape [n], or [channels, n] for `channels="all"`; full scale is 1. `max_seconds` keeps the
    beginning; it is cut before resampling, as SALMONN's code does. Less than `min_seconds` is
    filled up with silence, more than 1 GiB cut, with a note. Of several tracks the default one is
    read.

    Raises MissingModality where there is no file or no sound track in it, Timeout where reading
    takes longer than `media.seconds`, Unavailable where the system fails, Unreadable otherwise.
    Silence is sound: samples that are all zero are returned as they are.
    """
    samples, facts = read("sound", path, _nothing, channels=channels, max_seconds=max_seconds)
    if not np.isfinite(samples).all():
        raise Unreadable(f"{where(path)} holds samples that are not numbers")
    loudest = max(float(samples.max()), -float(samples.min()))
    if loudest > _LOUDEST:
        raise Unreadable(f"{where(path)} holds samples of {loudest:.3g}, where full scale is 1")
    notes = facts["notes"]
    if samples.shape[1] < min_seconds * facts["rate"]:
        missing = round(min_seconds * facts["rate"]) - samples.shape[1]
        seconds = samples.shape[1] / facts["rate"]
        notes.append(f"the sound lasts {seconds:.3g} s; silence was added up to {min_seconds:g} s")
        samples = np.pad(samples, ((0, 0), (0, missing)))
    observe(notes)
    if facts["rate"] != rate:
        samples = resample(samples, facts["rate"], rate, resampling)
    return np.ascontiguousarray(samples if channels == "all" else samples[0])


def _nothing(count: int, fps: float) -> list[int]:
    raise AssertionError("sound has no frames to pick")


def read_nearest(path: Path, rate: int) -> Samples:
    """Samples [n] of a sound file, or of a video's sound track, picked by moviepy's rule.

    `rate` is per second; full scale is 1, in steps of 1/32768. See nearest.py for the rule, which
    is for models whose authors' code follows it. Raises as `read_sound` does.
    """
    samples, facts = read("nearest", path, _nothing, rate=rate)
    observe(facts["notes"])
    return np.asarray(samples / 32_768, np.float32)


def read_windows(
    path: Path, rate: int, seconds: int, n: int, *, reach_end: bool = False
) -> list[Samples]:
    """n stretches [samples] of a sound, spread by `sampling.window_starts`, for ImageBind.

    As `load_and_transform_audio_data` of ImageBind's data.py has it: resampled by torchaudio; the
    mean over all channels is taken off each stretch in turn, and so twice off what two of them
    share; then the first channel is heard. A sound that is no longer than one stretch is used whole
    n times. Raises as `read_sound` does.
    """
    sound = read_sound(path, rate, channels="all", resampling="sinc_hann")
    found = []
    for start in window_starts(sound.shape[1] / rate, seconds, n, reach_end=reach_end):
        stretch = sound[:, int(start * rate) : int((start + seconds) * rate)]
        stretch -= stretch.mean()  # in `sound` itself
        found.append(stretch[0].copy())
    return found
