"""Stretches of sound as the ImageBind models hear them."""

import numpy as np
import pytest

from ovmer.adapters.media import read_sound, read_windows
from ovmer.baselines.errors import MissingModality
from tests import SAMPLE
from tests.adapters.media_files import tone, write_wav


def ramp(folder, seconds, rate=16000):
    """A sound whose samples tell their place, as far as 24 bits do."""
    samples = np.linspace(-0.5, 0.5, int(seconds * rate)).astype(np.float32)
    return write_wav(folder / f"{seconds}.wav", samples, rate), samples


@pytest.mark.parametrize(
    ("seconds", "n", "reach_end", "starts"),
    [
        (8.0, 3, True, [0, 48000, 96000]),
        (8.0, 3, False, [0, 32000, 64000]),
        (18.0, 8, False, [32000 * i for i in range(8)]),
        (18.0, 1, True, [0]),
    ],
)
def test_windows_are_spread_over_the_sound(tmp_path, seconds, n, reach_end, starts):
    noise = np.random.default_rng(3).normal(size=int(seconds * 16000)).astype(np.float32)
    file = write_wav(tmp_path / "noise.wav", noise, 16000)
    found = read_windows(file, 16000, 2, n, reach_end=reach_end)
    for window, start in zip(found, starts, strict=True):
        expected = noise[start : start + 32000]
        np.testing.assert_allclose(window, expected - expected.mean(), atol=1e-6)


def test_the_mean_goes_twice_where_windows_overlap(tmp_path):
    """As upstream does, in place: 3 s in 3 windows, of which the second begins at 0.5 s."""
    file, samples = ramp(tmp_path, 3.0)
    first = samples[:32000].mean()
    once = np.concatenate([samples[:32000] - first, samples[32000:]])
    second = once[8000:40000] - once[8000:40000].mean()
    found = read_windows(file, 16000, 2, 3, reach_end=True)
    np.testing.assert_allclose(found[1], second, atol=1e-4)
    step = np.abs(np.diff(found[1])).argmax()
    assert step == 32000 - 8000 - 1  # where the first window ended


def test_a_short_sound_is_used_whole_each_time(tmp_path):
    file, samples = ramp(tmp_path, 0.7)
    found = read_windows(file, 16000, 2, 3)
    assert [len(window) for window in found] == [len(samples)] * 3
    np.testing.assert_allclose(found[0], samples - samples.mean(), atol=1e-4)


def test_the_first_channel_is_heard_and_the_mean_is_that_of_all(tmp_path):
    left = tone(1.0, 22050, 300) / 4
    file = write_wav(tmp_path / "both.wav", np.stack([left, left + 0.5], axis=1), 22050)
    found = read_windows(file, 16000, 2, 1)[0]
    alone = read_sound(file, 16000, channels="first", resampling="sinc_hann")
    np.testing.assert_allclose(found - alone, -0.25 * np.ones_like(alone), atol=5e-3)


def test_a_silent_film_has_no_windows():
    with pytest.raises(MissingModality, match="no sound track"):
        read_windows(SAMPLE / "video" / "silent_smile.mp4", 16000, 2, 3)
