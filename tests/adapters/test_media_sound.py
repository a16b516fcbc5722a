"""Sound: the right samples at the right rate, from sound files and from sound tracks."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from ovmer.adapters.media import Resampling, observing, read_nearest, read_sound
from ovmer.baselines.errors import MissingModality, Unreadable
from tests import SAMPLE
from tests.adapters.media_files import SHARED, greys, tone, write_sound_only, write_video, write_wav

RESAMPLINGS: tuple[Resampling, ...] = ("soxr_hq", "fft", "sinc_hann")


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Cosine of two stretches of sound of nearly equal length."""
    n = min(len(a), len(b))
    return float(a[:n] @ b[:n] / np.linalg.norm(a[:n]) / np.linalg.norm(b[:n]))


def test_samples_come_as_they_are_at_the_files_rate(tmp_path: Path) -> None:
    written = tone(0.3, 16_000)
    samples = read_sound(write_wav(tmp_path / "a.wav", written, 16_000), 16_000)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, written)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("ULAW", 0.05), ("DOUBLE", 1e-7)]
)
def test_codings_of_samples(tmp_path: Path, subtype: str, step: float) -> None:
    written = tone(0.2, 8_000)
    samples = read_sound(write_wav(tmp_path / "a.wav", written, 8_000, subtype), 8_000)
    assert np.abs(samples - written).max() <= step


def test_an_mp3_under_the_name_of_a_wav(tmp_path: Path) -> None:
    written = tone(1.0, 16_000)
    path = write_wav(tmp_path / "a.wav", written, 16_000, "MPEG_LAYER_III", format="MP3")
    samples = read_sound(path, 16_000)
    assert len(samples) == pytest.approx(16_000, abs=1200)  # MP3 pads to whole packets
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * 16_000 / len(samples) == pytest.approx(440, abs=2)


def test_channels_are_averaged_or_the_first_or_all(tmp_path: Path) -> None:
    left, right = tone(0.1, 16_000, 300), tone(0.1, 16_000, 500)
    path = write_wav(tmp_path / "a.wav", np.stack([left, right], 1), 16_000)
    np.testing.assert_allclose(read_sound(path, 16_000), (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(read_sound(path, 16_000, channels="first"), left)
    both = read_sound(path, 16_000, channels="all")
    np.testing.assert_array_equal(both, np.stack([left, right]))
    assert read_sound(path, 8_000, channels="all").shape == (2, 800)


def test_six_channels_become_one(tmp_path: Path) -> None:
    six = np.stack([tone(0.1, 16_000, 100 * i) for i in range(1, 7)], 1)
    samples = read_sound(write_wav(tmp_path / "a.wav", six, 16_000), 16_000)
    np.testing.assert_allclose(samples, six.mean(1), atol=1e-7)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone(tmp_path: Path, resampling: Resampling, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.5, rate), rate)
    samples = read_sound(path, 16_000, resampling=resampling)
    assert len(samples) == 8_000
    # In the middle, away from the filters' edges: every method is that good for a low tone.
    expected = tone(0.5, 16_000)
    assert np.abs(samples - expected)[1000:-1000].max() < 2e-3


def test_fft_resampling_is_scipys(tmp_path: Path) -> None:
    written = np.random.default_rng(0).normal(0, 0.1, 5_000).astype("f4")
    path = write_wav(tmp_path / "a.wav", written, 22_050)
    expected = scipy.signal.resample(written, int(np.ceil(5_000 * 16_000 / 22_050)))
    np.testing.assert_allclose(read_sound(path, 16_000, resampling="fft"), expected, atol=1e-6)


def test_sinc_resampling_is_torchaudios(tmp_path: Path) -> None:
    """Numbers of torchaudio's Resample(22050, 16000), recorded with SECap's golden data."""
    golden = SHARED / "golden" / "secap" / "case_resample_22k.npz"
    if not golden.is_file():
        pytest.skip("needs ../shared/golden/secap, which does not ship with the repository")
    with np.load(golden) as recorded:
        path = write_wav(tmp_path / "a.wav", recorded["waveform"], 22_050)
        samples = read_sound(path, 16_000, resampling="sinc_hann")
        # Full scale is 0.8 there; a filter of 459 taps in float32 leaves a few 1e-6.
        np.testing.assert_allclose(samples, recorded["waveform_16k"], atol=5e-6)


def test_the_limit_is_cut_before_resampling(tmp_path: Path) -> None:
    written = tone(3.0, 22_050)
    path = write_wav(tmp_path / "a.wav", written, 22_050)
    cut = write_wav(tmp_path / "b.wav", written[:22_050], 22_050)
    np.testing.assert_array_equal(
        read_sound(path, 16_000, max_seconds=1.0), read_sound(cut, 16_000)
    )
    assert len(read_sound(path, 16_000, max_seconds=30.0)) == 48_000


def test_the_sound_track_of_a_video_is_its_wav() -> None:
    for name in ("good_news", "farewell"):
        track = read_sound(SAMPLE / "video" / f"{name}.mp4", 16_000)
        wav = read_sound(SAMPLE / "audio" / f"{name}.wav", 16_000)
        # AAC begins with 1,024 samples of its own.
        delays = (0, 1024)
        assert max(similarity(track[delay:], wav) for delay in delays) > 0.95
    short = read_sound(SAMPLE / "video" / "good_news.mp4", 16_000, max_seconds=0.5)
    assert len(short) == 8_000


def test_a_track_is_resampled_like_a_file(tmp_path: Path) -> None:
    path = write_sound_only(tmp_path / "a.mp4", seconds=1.0, rate=44_100)
    samples = read_sound(path, 16_000)
    assert len(samples) == pytest.approx(16_000, abs=1024)
    middle = samples[3_000:-3_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(middle), 1 / 16_000) - 440) < 20
    # One packet of 1,024 samples spoilt at its edge would leave far more beside the tone.
    assert spectrum[~near].sum() / spectrum[near].sum() < 1e-3  # 5e-5; 2e-4 with PyAV 19


def test_a_silent_video_lacks_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mime.mp4", greys(5))
    with pytest.raises(MissingModality, match=r"mime\.mp4 has no sound track"):
        read_sound(path, 16_000)
    with pytest.raises(MissingModality, match=r"silent_smile\.mp4 has no sound track"):
        read_sound(SAMPLE / "video" / "silent_smile.mp4", 16_000)


def test_silence_and_a_few_samples_are_sound(tmp_path: Path) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(32_000, "f4"), 16_000)
    np.testing.assert_array_equal(read_sound(silence, 16_000), np.zeros(32_000, "f4"))
    tiny = write_wav(tmp_path / "tiny.wav", tone(0.01, 16_000), 16_000)
    with observing() as observed:
        padded = read_sound(tiny, 16_000, min_seconds=0.1)
    np.testing.assert_array_equal(padded, np.pad(tone(0.01, 16_000), (0, 1_440)))
    assert observed.notes == ["the sound lasts 0.01 s; silence was added up to 0.1 s"]
    assert read_sound(tiny, 48_000, min_seconds=0.1).shape == (4_800,)
    assert read_sound(tiny, 16_000).shape == (160,)


def header_only(data: bytes) -> bytes:
    return data[:40] + struct.pack("<I", 0)


def claims_gigabytes(data: bytes) -> bytes:
    return data[:40] + struct.pack("<I", 2**32 - 64) + data[44:]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", r"is empty \(0 bytes\)"),
    "text": (lambda data: b"this is not a sound\n" * 50, "is damaged, cut short, or not what"),
    "header": (header_only, "holds no samples"),
    "torn_header": (lambda data: data[:30], "is damaged, cut short, or not what"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_sounds(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    damage, reason = BROKEN[kind]
    good = write_wav(tmp_path / "good.wav", tone(0.1, 16_000), 16_000, "PCM_16").read_bytes()
    path = tmp_path / "audio" / f"{kind}.wav"
    path.parent.mkdir()
    path.write_bytes(damage(good))
    with pytest.raises(Unreadable, match=reason) as caught:
        read_sound(path, 16_000)
    message = str(caught.value)
    assert message.startswith(f"audio/{kind}.wav ")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_a_header_that_claims_gigabytes_gives_what_is_there(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.1, 16_000), 16_000, "PCM_16")
    path.write_bytes(claims_gigabytes(path.read_bytes()))
    assert read_sound(path, 16_000).shape == (1_600,)


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    samples = tone(0.1, 16_000)
    samples[7] = np.nan
    path = write_wav(tmp_path / "a.wav", samples, 16_000)
    with pytest.raises(Unreadable, match="samples that are not numbers"):
        read_sound(path, 16_000)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingModality, match=r"there is no file .*gone\.wav"):
        read_sound(tmp_path / "gone.wav", 16_000)


def test_rates_without_a_common_divisor_take_little_memory(tmp_path: Path) -> None:
    """The sum without a table gives a tone, as the table of near rates does."""
    path = write_wav(tmp_path / "a.wav", tone(0.5, 15_999), 15_999)
    samples = read_sound(path, 16_000, resampling="sinc_hann")
    assert np.abs(samples[:7_900] - tone(0.5, 16_000)[:7_900])[1000:].max() < 2e-3


def test_odd_sounds_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"claims 1 samples a second, which cannot be"):
        read_sound(write_wav(tmp_path / "slow.wav", tone(0.1, 16_000), 1), 16_000)
    with pytest.raises(Unreadable, match="where full scale is 1"):
        read_sound(write_wav(tmp_path / "loud.wav", tone(0.1, 16_000) * 1e30, 16_000), 16_000)
    opposed = np.stack([tone(0.2, 16_000), -tone(0.2, 16_000)], 1)
    with observing() as observed:
        read_sound(write_wav(tmp_path / "opposed.wav", opposed, 16_000), 16_000)
    assert observed.notes == [
        "the sound's channels cancel each other, so that their mean is silent"
    ]
    short = write_wav(tmp_path / "short.wav", tone(1.0, 16_000), 16_000, "PCM_16")
    short.write_bytes(short.read_bytes()[:16_044])
    with observing() as observed:
        assert len(read_sound(short, 16_000)) == 8_000
    assert observed.notes == [
        "the header promises 32,000 bytes of sound, but the file holds 16,000"
    ]


def test_nearest_samples_are_those_of_their_times(tmp_path: Path) -> None:
    """A ramp at 44.1 kHz tells which sample was picked; one channel is played by two at -3 dB."""
    ramp = np.arange(-20_000, 20_000, dtype=np.int16)
    path = write_wav(tmp_path / "ramp.wav", np.stack([ramp, ramp], axis=1), 44_100, "PCM_16")
    found = read_nearest(path, 16_000) * 32_768
    seconds = 0.91  # 40,000 / 44,100, as FFmpeg prints it
    assert len(found) == int(16_000 * seconds)
    times = np.arange(14_500) / 16_000
    assert np.abs(found[:14_500] - (times * 44_100 - 20_000)).max() <= 0.51
    assert not found[-40:].any()  # silence up to the length that the container gives
    one = write_wav(tmp_path / "one.wav", ramp, 44_100, "PCM_16")
    assert np.abs(read_nearest(one, 16_000)[:14_500] * 32_768 - found[:14_500] / 2**0.5).max() <= 1


def test_nearest_samples_of_any_file(tmp_path: Path) -> None:
    for rate in (8_000, 16_000, 44_100, 48_000):
        path = write_wav(tmp_path / f"{rate}.wav", tone(1.0, rate, 300), rate, "PCM_16")
        heard = read_nearest(path, 16_000)
        assert heard.shape == (16_000,)
        assert similarity(heard, tone(1.0, 16_000, 300)) > 0.99
    heard = read_nearest(SAMPLE / "video" / "farewell.mp4", 16_000)
    assert np.abs(heard).max() > 0.01
    with pytest.raises(MissingModality, match=r"silent_smile\.mp4 has no sound track"):
        read_nearest(SAMPLE / "video" / "silent_smile.mp4", 16_000)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_sounds_have_no_nearest_samples(tmp_path: Path, kind: str) -> None:
    good = write_wav(tmp_path / "good.wav", tone(0.1, 16_000), 16_000, "PCM_16").read_bytes()
    path = tmp_path / f"{kind}.wav"
    path.write_bytes(BROKEN[kind][0](good))
    with pytest.raises(Unreadable, match=rf"{kind}\.wav"):
        read_nearest(path, 16_000)
