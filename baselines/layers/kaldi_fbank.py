"""Kaldi's log-mel filter bank in plain numpy: the input of BEATs and of ImageBind's sound tower.

Kaldi itself and torchaudio compute it in the waveform's precision; here it is float64 throughout.
Dither is off and there is no energy column, as in every model that uses this file.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SAMPLE_RATE = 16000
FRAME = 400  # 25 ms
SHIFT = 160  # 10 ms
_FFT = 512  # the next power of two
_PRE_EMPHASIS = 0.97
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0
_FLOOR = float(np.finfo(np.float32).eps)


def kaldi_fbank(waveform: npt.ArrayLike, bins: int = 128, window: str = "povey") -> Floats:
    """Log mel energies [frames, bins] of a mono 16 kHz waveform [samples].

    Only whole frames count (Kaldi's snip_edges): 1 + (samples - 400) // 160 of them, or none where
    the sound is shorter than 25 ms. `window` is "povey" (Kaldi's own) or "hanning".
    """
    samples = np.asarray(waveform, dtype=np.float64)
    if len(samples) < FRAME:
        return np.empty((0, bins))
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - _PRE_EMPHASIS * before) * _window(window)
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2
    energies: Floats = np.log(np.maximum(power @ _mel_triangles(bins), _FLOOR))
    return energies


def _window(name: str) -> Floats:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))
    return np.asarray({"hanning": hann, "povey": hann**0.85}[name])


def _mel(hertz: npt.ArrayLike) -> Floats:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))


@cache
def _mel_triangles(bins: int) -> Floats:
    """[257, bins]: triangles whose sides are straight in mel, all of height 1; Nyquist unused."""
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), bins + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    lines = _mel(np.arange(_FFT // 2) * SAMPLE_RATE / _FFT)[:, None]
    rising, falling = (lines - left) / (centre - left), (right - lines) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.concatenate([triangles, np.zeros((1, bins))])
