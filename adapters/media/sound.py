"""Sound of a clip as float32 samples, from a sound file or from the sound track of a video.

Sound files are read with soundfile, which goes by content and not by name (an MP3 called .wav
reads), and resampled with librosa. Sound tracks are read with PyAV and not with decord's
AudioReader, of which release 0.6 was measured to keep every clip's samples in memory for ever
(360 kB for two seconds), to lose a file handle for each video without sound, to write the second
channel over the first, and to reset its resampler after every packet (5 dB of signal to noise
where FFmpeg itself has 20 against soxr).
"""

import math
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.media.container import open_container, require_codec, require_file, where
from ovmer.adapters.media.sampling import window_starts
from ovmer.baselines.errors import MissingModality, Unreadable

Samples = NDArray[np.float32]

Channels = Literal["mean", "first", "all"]
"""What becomes of several channels: their mean, the first alone (SALMONN), or all as they are."""

Resampling = Literal["soxr_hq", "fft", "sinc_hann"]
"""librosa's default; librosa's `fft` (SALMONN); torchaudio's default (SECap, the ImageBind models).

They differ in the last bits of a voice and in how much survives just below half the rate.
"""

_PIECE = 1 << 20  # samples

# torchaudio.functional.resample: lowpass_filter_width and rolloff.
_ZEROS, _ROLLOFF = 6, 0.99


def read_sound(
    path: Path,
    rate: int,
    *,
    channels: Channels = "mean",
    resampling: Resampling = "soxr_hq",
    max_seconds: float | None = None,
) -> Samples:
    """Samples of a sound file, or of a video's sound track, at `rate` per second.

    Shape [n], or [channels, n] for `channels="all"`; full scale is 1. `max_seconds` keeps the
    beginning; it is cut before resampling, as SALMONN's code does.

    Raises MissingModality where there is no file or no sound track in it, Unreadable otherwise.
    Silence is sound: samples that are all zero are returned as they are.
    """
    require_file(path)
    samples, source_rate = _read_sound_file(path, max_seconds) or _read_track(path, max_seconds)
    if samples.shape[1] == 0:
        raise Unreadable(f"{where(path)} holds no samples")
    if not np.isfinite(samples).all():
        raise Unreadable(f"{where(path)} holds samples that are not numbers")
    if channels == "mean":
        samples = samples.mean(axis=0, keepdims=True)
    elif channels == "first":
        samples = samples[:1]
    if source_rate != rate:
        samples = _resample(samples, source_rate, rate, resampling)
    return np.ascontiguousarray(samples if channels == "all" else samples[0])


def read_windows(
    path: Path, rate: int, seconds: int, n: int, *, reach_end: bool = False
) -> list[Samples]:
    """n stretches [samples] of a sound, spread by `sampling.window_starts`, for ImageBind.

    As `load_and_transform_audio_data` of ImageBind's data.py has it: resampled by torchaudio; the
    mean over all channels is taken off each stretch in turn, and so twice off what two of them
    share; then the first channel is heard. A sound that is no longer than one stretch stands whole
    n times. Raises as `read_sound` does.
    """
    sound = read_sound(path, rate, channels="all", resampling="sinc_hann")
    found = []
    for start in window_starts(sound.shape[1] / rate, seconds, n, reach_end=reach_end):
        stretch = sound[:, int(start * rate) : int((start + seconds) * rate)]
        stretch -= stretch.mean()  # in `sound` itself
        found.append(stretch[0].copy())
    return found


def _read_sound_file(path: Path, max_seconds: float | None) -> tuple[Samples, int] | None:
    """[channels, n] and their rate, or None where this is no file for soundfile."""
    import soundfile

    try:
        with soundfile.SoundFile(path.absolute()) as file:
            most = math.inf if max_seconds is None else int(max_seconds * file.samplerate)
            pieces: list[Samples] = []
            # Piece by piece: a damaged header may claim gigabytes.
            while most > 0:
                piece = file.read(int(min(most, _PIECE)), dtype="float32", always_2d=True)
                pieces.append(piece.T)
                most = most - _PIECE if len(piece) == _PIECE else 0
            return np.concatenate(pieces, axis=1), file.samplerate
    except soundfile.LibsndfileError:
        return None


def _read_track(path: Path, max_seconds: float | None) -> tuple[Samples, int]:
    """[channels, n] of the first sound track, and its rate."""
    from av import AudioResampler

    with open_container(path) as container:
        if not container.streams.audio:
            raise MissingModality(f"{where(path)} has no sound track")
        require_codec(container.streams.audio[0], path)
        rate = container.streams.audio[0].rate
        most = None if max_seconds is None else int(max_seconds * rate)
        to_float = AudioResampler(format="fltp")  # [channels, n]; keeps rate and layout
        pieces: list[Samples] = []
        taken = 0
        for frame in container.decode(audio=0):
            for piece in to_float.resample(frame):
                pieces.append(piece.to_ndarray().astype(np.float32, copy=False))
                taken += piece.samples
            if most is not None and taken >= most:
                break
    if not pieces:
        raise Unreadable(f"{where(path)} holds no samples")
    return np.concatenate(pieces, axis=1)[:, :most], rate


def _resample(samples: Samples, source: int, target: int, how: Resampling) -> Samples:
    if how == "sinc_hann":
        return np.stack([_resample_sinc(each, source, target) for each in samples])
    import librosa

    resampled: Samples = librosa.resample(
        samples, orig_sr=source, target_sr=target, res_type=how, axis=-1
    )
    return resampled


def _resample_sinc(samples: Samples, source: int, target: int) -> Samples:
    """torchaudio's `functional.resample` with its default settings, for one channel [n].

    Between samples a sinc of the lower rate's band, times the rolloff, under a Hann window of
    `_ZEROS` zero crossings a side: one filter for each of the target / gcd phases.
    """
    divisor = math.gcd(source, target)
    step, phases = source // divisor, target // divisor
    band = min(step, phases) * _ROLLOFF
    width = math.ceil(_ZEROS * step / band)
    taps = np.arange(-width, width + step) / step
    time = (taps - np.arange(phases)[:, None] / phases) * band
    time = time.clip(-_ZEROS, _ZEROS)
    window = np.cos(time * np.pi / _ZEROS / 2) ** 2
    filters = (np.sinc(time) * window * band / step).astype(np.float32)
    padded = np.pad(samples, (width, width + step))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, len(taps))[::step]
    length = math.ceil(Fraction(len(samples) * target, source))
    return np.asarray((pieces @ filters.T).reshape(-1)[:length])
