"""Kaldi's filter bank. (Golden data of SALMONN pin its numbers against torchaudio.)"""

import numpy as np
import pytest

from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE, kaldi_fbank


def tone(hertz: float, samples: int = 1600) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / SAMPLE_RATE)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (480000, 2998)]
)
def test_only_whole_frames_count(samples, frames):
    assert kaldi_fbank(np.zeros(samples)).shape == (frames, 128)


def test_silence_is_at_the_floor_whatever_its_level():
    floor = np.log(float(np.finfo(np.float32).eps))
    for level in (0.0, 0.5):
        np.testing.assert_array_equal(kaldi_fbank(np.full(800, level)), np.full((3, 128), floor))


def test_twice_the_amplitude_is_four_times_the_energy():
    noise = np.random.default_rng(0).normal(size=3200)
    # 40 bins, for of 128 the lowest are so narrow that some hold no line of the spectrum
    quiet, loud = kaldi_fbank(noise, bins=40), kaldi_fbank(2 * noise, bins=40)
    np.testing.assert_allclose(loud, quiet + np.log(4), rtol=1e-12)


@pytest.mark.parametrize("bins", [80, 128])
def test_a_tone_is_loudest_where_its_frequency_is_in_mel(bins):
    low, high = (1127 * np.log(1 + hertz / 700) for hertz in (20, 8000))
    for hertz in (500, 1000, 3000, 7000):
        place = (1127 * np.log(1 + hertz / 700) - low) / (high - low) * (bins + 1) - 1
        loudest = kaldi_fbank(tone(hertz), bins).mean(axis=0).argmax()
        assert abs(loudest - place) <= 1


def test_windows_differ():
    povey, hanning = (kaldi_fbank(tone(440), window=name) for name in ("povey", "hanning"))
    assert np.abs(povey - hanning).max() > 0.1
    with pytest.raises(KeyError, match="hamming"):
        kaldi_fbank(tone(440), window="hamming")
