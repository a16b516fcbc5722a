"""Sound at another rate, in the ways that the models' own code does it."""

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

Resampling = Literal["soxr_hq", "fft", "sinc_hann"]
"""librosa's default; librosa's `fft` (SALMONN); torchaudio's default (SECap, the ImageBind models).

They differ in the last bits of a voice and in how much survives just below half the rate.
"""

# torchaudio.functional.resample: lowpass_filter_width and rolloff.
_ZEROS, _ROLLOFF = 6, 0.99
_OUTPUTS = 1 << 14
_LARGEST_TABLE = 1 << 22  # coefficients; rates without a common divisor would need 256 million


def resample(samples: Samples, source: int, target: int, how: Resampling) -> Samples:
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
    if phases * (2 * width + step) > _LARGEST_TABLE:
        return _resample_by_phase(samples, step, phases, band, width)
    taps = np.arange(-width, width + step) / step
    time = (taps - np.arange(phases)[:, None] / phases) * band
    time = time.clip(-_ZEROS, _ZEROS)
    window = np.cos(time * np.pi / _ZEROS / 2) ** 2
    filters = (np.sinc(time) * window * band / step).astype(np.float32)
    padded = np.pad(samples, (width, width + step))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, len(taps))[::step]
    length = math.ceil(Fraction(len(samples) * target, source))
    return np.asarray((pieces @ filters.T).reshape(-1)[:length])


def _resample_by_phase(
    samples: Samples, step: int, phases: int, band: float, width: int
) -> Samples:
    """The same sum for rates with a small common divisor, without the zeros of its filters.

    A phase's filter has 2 `width` taps around its time; the table of `_resample_sinc` has
    2 `width` + `step`. Equal to it but for the order in which float32 numbers are added.
    """
    length = math.ceil(Fraction(len(samples) * phases, step))
    padded = np.pad(samples, (width, width + step)).astype(np.float32)
    resampled = np.empty(length, np.float32)
    for start in range(0, length, _OUTPUTS):
        outputs = np.arange(start, min(start + _OUTPUTS, length))
        nearest = outputs * step // phases
        offsets = np.arange(-width + 1, width + 1)
        beyond = (outputs * step % phases) / phases
        time = ((offsets[None, :] - beyond[:, None]) / step * band).clip(-_ZEROS, _ZEROS)
        filters = np.sinc(time) * np.cos(time * np.pi / _ZEROS / 2) ** 2 * band / step
        heard = padded[nearest[:, None] + offsets[None, :] + width]
        resampled[start : start + _OUTPUTS] = (heard * filters.astype(np.float32)).sum(axis=1)
    return resampled
