"""Videos and sounds that are in order, but not like most: what each is taken for is defined."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from ovmer.adapters.media import read_frames, read_sound
from ovmer.adapters.media.observe import observing
from ovmer.adapters.media.sampling import linspace
from ovmer.adapters.media.settings import MediaSettings, configure
from ovmer.baselines.errors import MissingModality
from tests.adapters.media_files import greys, numbers, rotated, tone, write_video

RATE = 16_000


def write_clip(
    path: Path,
    *,
    count: int = 25,
    hertz: tuple[float, ...] = (440.0,),
    default: int = 0,
    sound_starts: float = 0.0,
) -> Path:
    """Frames of `greys`, 25 a second, with a tone of equal length for each of `hertz`."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", 25)
        picture.height, picture.width, picture.pix_fmt = 64, 96, "yuv420p"
        tracks = [container.add_stream("aac", RATE, layout="mono") for _ in hertz]
        for number, track in enumerate(tracks):
            track.disposition = Disposition.default if number == default else Disposition(0)
        for number, pixels in enumerate(greys(count)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for track, pitch in zip(tracks, hertz, strict=True):
            samples = tone(count / 25, RATE, pitch)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = int(sound_starts * RATE)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def pitch_of(path: Path) -> float:
    """The loudest frequency of a clip's sound, in hertz."""
    sound = read_sound(path, RATE)
    return float(np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound))


def eight(path: Path) -> list[int]:
    return numbers(read_frames(path, lambda count, fps: linspace(count, 8)).pixels)


@pytest.fixture(params=["decord", "pyav"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    configure(MediaSettings(reader=request.param))
    yield request.param
    configure(MediaSettings())


def test_a_cover_is_no_picture_of_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        track = container.add_stream("mp3", 44_100, layout="mono")
        cover = container.add_stream("png", 1)
        cover.height, cover.width, cover.pix_fmt = 64, 96, "rgb24"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(greys(1)[0], format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        samples = tone(1.0, 44_100)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, 0, Fraction(1, 44_100)
        container.mux(track.encode(frame))
        container.mux(track.encode())
    assert pitch_of(path) == pytest.approx(440, abs=2)
    with pytest.raises(MissingModality, match=r"song\.mp3 holds no picture, only sound"):
        eight(path)


def test_of_two_tracks_the_default_one_is_heard(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "two.mp4", hertz=(440.0, 880.0), default=1)
    with observing() as seen:
        assert pitch_of(path) == pytest.approx(880, abs=2)
    assert seen.notes == ["of 2 sound tracks, the default one (number 2) was heard"]


def test_a_sound_that_begins_late_is_read_from_its_start(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.mp4", sound_starts=1.0)
    with observing() as seen:
        sound = read_sound(path, RATE)
    assert np.abs(sound[: RATE // 10]).mean() > 0.1
    assert len(sound) == pytest.approx(RATE, abs=RATE // 5)
    assert [note.split(" s ")[1] for note in seen.notes] == [
        "after the picture; the pause was left out"
    ]


def test_a_turned_video_is_upright_with_either_reader(tmp_path: Path, reader: str) -> None:
    pixels = greys(8)
    pixels[:, :8] = 255  # a bar at the top
    path = write_video(tmp_path / "clip.mp4", pixels)
    path.write_bytes(rotated(path.read_bytes()))
    found = read_frames(path, lambda count, fps: [0]).pixels[0]
    assert found.shape == (96, 64, 3)
    assert found[:, -6:].mean() > 200 > found[:, :40].mean()


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webm", greys(10), codec="libvpx-vp9", pixels="yuva420p")
    assert eight(path) == linspace(10, 8)


def test_a_picture_of_one_pixel(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", greys(10, 1, 1), codec="ffv1", pixels="bgr0")
    assert eight(path) == linspace(10, 8)


def test_a_single_frame_is_repeated(tmp_path: Path) -> None:
    assert eight(write_video(tmp_path / "clip.mp4", greys(1))) == [0] * 8


def test_frames_in_bursts_keep_their_numbers(tmp_path: Path) -> None:
    """As screen recorders write them: 120 a second for a moment, then a pause."""
    times = [cycle * 7 + step for cycle in range(12) for step in range(3)]
    path = write_video(tmp_path / "clip.mp4", greys(36), fps=120, times=times)
    assert eight(path) == linspace(36, 8)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_colours_stay_apart_with_either_reader(tmp_path: Path, pixels: str, reader: str) -> None:
    """Bars of two colours, four pixels wide; chroma has half the resolution, so two would do."""
    bars = np.empty((5, 64, 96, 3), np.uint8)
    bars[:] = (20, 200, 60)
    bars[:, :, np.arange(96) % 8 < 4] = (200, 40, 60)
    path = write_video(tmp_path / "clip.mp4", bars, pixels=pixels)
    found = read_frames(path, lambda count, fps: [2]).pixels[0].astype(int)
    assert np.abs(found - bars[0]).mean() < 5  # lossy coding; blurred colours are off by 15
