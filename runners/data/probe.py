"""Probes the beginning of a media file for picture, sound and length.

It is read by the reader of the sweep itself (first frame, first samples), so that the two cannot
disagree. Only decoding the whole file shows damage further in.
"""

from dataclasses import dataclass
from pathlib import Path

from ovmer.baselines.errors import ClipError, MissingModality

_BEGINNING = 0.1  # seconds of sound


@dataclass(frozen=True, slots=True)
class Probe:
    """Contents of one media file."""

    seconds: float = 0.0
    """Of the picture."""
    has_picture: bool = False
    has_sound: bool = False
    problem: str | None = None
    """Why it cannot be read, in a few words; then the rest says nothing."""


def probe(path: Path) -> Probe:
    """Look into a video, sound or .npy file; never raises for what is wrong with it."""
    from ovmer.adapters.media import read_frames, read_sound

    seconds, has_picture, problem = 0.0, False, ""
    try:
        frames = read_frames(path, lambda count, fps: [0])
        seconds, has_picture = frames.count / frames.fps, True
        if path.suffix == ".npy":
            return Probe(has_picture=True)
    except MissingModality as error:
        problem = str(error)
    except ClipError as error:
        # soundfile reads files that are none to FFmpeg.
        if path.suffix.lower() != ".wav":
            return Probe(problem=_without_name(error, path))
    try:
        read_sound(path, 16_000, resampling="sinc_hann", max_seconds=_BEGINNING)
        return Probe(seconds, has_picture, True)
    except MissingModality:
        return Probe(seconds, has_picture) if has_picture else Probe(problem=problem)
    except ClipError as error:
        return Probe(seconds, True) if has_picture else Probe(problem=_without_name(error, path))


def _without_name(error: ClipError, path: Path) -> str:
    return str(error).removeprefix(f"{path.parent.name}/{path.name} ")
