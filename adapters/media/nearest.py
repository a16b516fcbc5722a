"""Sound as moviepy 1.0 hands it to a model: the nearest samples, without a low-pass filter.

    FFmpeg: 44.1 kHz, two channels, 16 bits -> moviepy: at each time i / rate the nearest sample,
    clipped to 0.99 of full scale -> FFmpeg: the mean of both channels

Frequencies above half the target rate are folded back, so this is for models whose authors' code
did it (`VideoFileClip.audio.write_audiofile`). Their clip has its container's length, to 0.01 s; if
the sound ends before, silence follows here. (moviepy repeats parts of the last 2000 samples.)
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.container import open_container, where
from ovmer.adapters.media.decode import MOST_BYTES, Reading
from ovmer.adapters.media.track import decoded, default_track
from ovmer.baselines.errors import Unreadable

if TYPE_CHECKING:
    from av.container import InputContainer

_DECODED = 44_100
_LOUDEST = int(0.99 * 32_768)


def read_nearest_samples(path: Path, rate: int) -> Reading:
    """Samples [n] of the default sound track at `rate` per second, 16 bits each."""
    with open_container(path) as container:
        track = _decode(container, path)
        seconds = _seconds(container, track)
    notes = []
    if track.nbytes >= MOST_BYTES:
        seconds = track.shape[1] / _DECODED
        notes.append(f"only the first {seconds:.0f} s of the sound were read")
    return _pick(track, rate, seconds), {"notes": notes}
    yield  # a Reading that asks for no indices


def _decode(container: "InputContainer", path: Path) -> NDArray[np.int16]:
    """The default sound track [2, n] at 44.1 kHz, up to 1 GiB of it."""
    from av import AudioResampler

    stream = default_track(container, path)
    resampler = AudioResampler(format="s16p", layout="stereo", rate=_DECODED)
    pieces, taken = list[NDArray[np.int16]](), 0
    for piece in decoded(container, stream, resampler, path):
        pieces.append(piece.to_ndarray().astype(np.int16, copy=False))
        taken += pieces[-1].nbytes
        if taken >= MOST_BYTES:
            break
    if not pieces:
        raise Unreadable(f"{where(path)} holds no samples")
    return np.concatenate(pieces, axis=1)


def _seconds(container: "InputContainer", track: NDArray[np.int16]) -> float:
    """How long the clip is by its container, to 0.01 s as FFmpeg prints it; else by its sound."""
    if container.duration:
        return (container.duration + 5_000) // 10_000 / 100
    return track.shape[1] / _DECODED


def _pick(track: NDArray[np.int16], rate: int, seconds: float) -> NDArray[np.int16]:
    """Channels x samples at 44.1 kHz -> samples at `rate`."""
    # In moviepy's order of operations: some times are in the middle between two samples.
    count = min(int(rate * seconds), MOST_BYTES // 8)  # a damaged header may claim years
    times = (1.0 / rate) * np.arange(count)
    nearest = np.round(_DECODED * times).astype(np.int64)
    heard = nearest[nearest < track.shape[1]]
    picked = track[:, heard].astype(np.int32).clip(-_LOUDEST, _LOUDEST)
    mono = (picked.sum(axis=0) + 1) >> 1
    return np.pad(mono, (0, len(nearest) - len(heard))).astype(np.int16)
