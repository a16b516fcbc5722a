"""Frames: the right ones, in RGB, from good files and bad."""

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from ovmer.adapters.media import observing, read_frames, sampling
from ovmer.adapters.media.observe import write_frames
from ovmer.baselines.errors import MissingModality, Unreadable
from tests import SAMPLE
from tests.adapters.media_files import (
    greys,
    numbers,
    rotated,
    with_frame_count,
    write_sound_only,
    write_video,
)

GOOD = SAMPLE / "video" / "good_news.mp4"


def eight(count: int, fps: float) -> list[int]:
    return sampling.linspace(count, 8)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("hevc10.mp4", "libx265", "yuv420p10le"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("h264.mkv", "libx264", "yuv444p"),
    ],
)
def test_an_index_is_the_frame_of_that_number(
    tmp_path: Path, name: str, codec: str, pixels: str
) -> None:
    path = write_video(tmp_path / name, greys(50), codec=codec, pixels=pixels)
    wanted = [49, 0, 7, 7, 31]
    frames = read_frames(path, lambda count, fps: wanted)
    assert (frames.count, frames.fps, frames.indices) == (50, 25.0, (49, 0, 7, 7, 31))
    assert frames.pixels.shape == (5, 64, 96, 3)
    assert frames.pixels.dtype == np.uint8
    assert numbers(frames.pixels) == wanted


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((3, 64, 64, 3), np.uint8)
    red[..., 0] = 255
    pixels = read_frames(write_video(tmp_path / "red.mp4", red), eight).pixels
    assert pixels[..., 0].min() > 240
    assert pixels[..., 1:].max() < 15


def test_short_clips_repeat_frames_as_the_rule_says(tmp_path: Path) -> None:
    one = read_frames(write_video(tmp_path / "one.mp4", greys(1)), eight)
    assert one.indices == (0,) * 8
    three = read_frames(write_video(tmp_path / "three.mp4", greys(3)), eight)
    assert three.indices == (0, 0, 0, 0, 1, 1, 1, 2)
    assert len(three.pixels) == 8


def test_a_variable_rate_is_read_frame_by_frame(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 50]
    path = write_video(tmp_path / "vfr.mp4", greys(10), times=times)
    frames = read_frames(path, lambda count, fps: range(count))
    assert frames.count == 10
    assert numbers(frames.pixels) == list(range(10))


def test_rotation_in_the_header_is_applied(tmp_path: Path) -> None:
    upright = write_video(tmp_path / "a.mp4", greys(5))
    turned = tmp_path / "b.mp4"
    turned.write_bytes(rotated(upright.read_bytes()))
    assert read_frames(turned, eight).pixels.shape == (8, 96, 64, 3)


@pytest.mark.parametrize("width", [16, 24, 34, 48, 72])
def test_narrow_pictures_are_read(tmp_path: Path, width: int) -> None:
    path = write_video(tmp_path / "narrow.mp4", greys(10, 128, width))
    frames = read_frames(path, lambda count, fps: [9, 2])
    assert frames.pixels.shape == (2, 128, width, 3)
    assert numbers(frames.pixels) == [9, 2]


def test_size_scales_as_ffmpeg_does_on_the_coded_picture() -> None:
    """decord's 224 x 224 is FFmpeg's bilinear scaler before the conversion to RGB."""
    ours = read_frames(GOOD, lambda count, fps: [20], size=(224, 224)).pixels[0]
    with av.open(str(GOOD)) as container:
        graph = Graph()
        steps = [
            graph.add_buffer(template=container.streams.video[0]),
            graph.add("scale", "224:224:flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        for before, after in pairwise(steps):
            before.link_to(after)
        graph.configure()
        frame = next(f for i, f in enumerate(container.decode(video=0)) if i == 20)
        graph.push(frame)
        theirs = graph.pull().to_ndarray()
    assert ours.shape == (224, 224, 3)
    # Two builds of FFmpeg: equal but for a rounding here and there.
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 2
    assert difference.mean() < 0.05


def test_seconds_say_when_frames_are_shown() -> None:
    frames = read_frames(GOOD, lambda count, fps: [0, 10, 25])
    assert frames.seconds == (0.0, 0.4, 1.0)


def test_faces_are_turned_from_opencv_order_to_rgb(tmp_path: Path) -> None:
    faces = np.zeros((10, 112, 112, 3), np.uint8)
    faces[..., 0] = 200  # blue comes first in OpenCV
    faces[3, ..., 2] = 30
    np.save(tmp_path / "a.npy", faces)
    frames = read_frames(tmp_path / "a.npy", lambda count, fps: [3, 9])
    assert frames.count == 10
    assert frames.pixels.shape == (2, 112, 112, 3)
    assert frames.pixels[0, 0, 0].tolist() == [30, 0, 200]
    assert frames.pixels[1, 0, 0].tolist() == [0, 0, 200]
    scaled = read_frames(tmp_path / "a.npy", lambda count, fps: [3], size=(224, 200)).pixels
    assert scaled.shape == (1, 200, 224, 3)
    assert (scaled == [30, 0, 200]).all()


@pytest.mark.parametrize(
    ("sides", "size", "first_channel"),
    [
        (
            (2, 3),
            (5, 4),
            [
                [0, 44, 111, 177, 222],
                [19, 64, 130, 158, 177],
                [58, 102, 169, 120, 88],
                [77, 121, 188, 101, 43],
            ],
        ),
        ((4, 4), (2, 2), [[86, 116], [142, 108]]),
        ((5, 7), (3, 2), [[80, 84, 87], [103, 106, 109]]),
    ],
)
def test_faces_are_scaled_as_opencv_does(
    tmp_path: Path, sides: tuple[int, int], size: tuple[int, int], first_channel: list[list[int]]
) -> None:
    """The numbers are those of cv2.resize (opencv-python 4.14 and 5.0)."""
    high, wide = sides
    face = (np.arange(high * wide * 3) * 37 % 256).astype(np.uint8).reshape(1, high, wide, 3)
    np.save(tmp_path / "a.npy", face)
    scaled = read_frames(tmp_path / "a.npy", lambda count, fps: [0], size=size).pixels
    assert scaled[0, ..., 2].tolist() == first_channel  # the first in OpenCV's order


def save_array(array: object) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (save_array(np.zeros((4, 112, 112, 3), np.float32)), "holds float32 4x112x112x3"),
        (save_array(np.zeros((112, 112, 3), np.uint8)), "holds uint8 112x112x3"),
        (save_array(np.zeros((0, 112, 112, 3), np.uint8)), "holds no frames"),
        (save_array(np.array([{"a": 1}], dtype=object)), "no array that numpy can read"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), "no array that numpy can read"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "no array that numpy can read"),
    ],
)
def test_arrays_that_hold_no_faces(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path / "face.npy")
    with pytest.raises(Unreadable, match=reason) as caught:
        read_frames(tmp_path / "face.npy", eight)
    assert "face.npy" in str(caught.value)


def test_an_array_cut_short(tmp_path: Path) -> None:
    whole = SAMPLE / "openface_face" / "good_news" / "good_news.npy"
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(Unreadable, match=r"cut\.npy is no array"):
        read_frames(tmp_path / "cut.npy", eight)


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", r"is empty \(0 bytes\)"),
    "text": (lambda data: b"this is not a video\n" * 50, "is damaged, cut short, or not what"),
    "half": (lambda data: data[: len(data) // 2], "is damaged, cut short, or not what"),
    "claims": (lambda data: with_frame_count(data, 2**31), "it claims 2147483648 frames"),
    "noise": (
        lambda data: data[:100] + b"\xff\x00" * ((len(data) - 4100) // 2) + data[-4000:],
        "cannot be decoded|is damaged",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_videos(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    damage, reason = BROKEN[kind]
    path = tmp_path / "video" / f"{kind}.mp4"
    path.parent.mkdir()
    path.write_bytes(damage(GOOD.read_bytes()))
    with pytest.raises(Unreadable, match=reason) as caught:
        read_frames(path, eight)
    message = str(caught.value)
    assert message.startswith(f"video/{kind}.mp4 ")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_a_file_with_sound_only_lacks_the_picture(tmp_path: Path) -> None:
    path = write_sound_only(tmp_path / "voice.mp4")
    with pytest.raises(MissingModality, match=r"voice\.mp4 holds no picture, only sound"):
        read_frames(path, eight)


@pytest.mark.parametrize("ending", ["mp4", "npy"])
def test_a_file_that_is_not_there(tmp_path: Path, ending: str) -> None:
    with pytest.raises(MissingModality, match=f"there is no file .*/gone.{ending}"):
        read_frames(tmp_path / f"gone.{ending}", eight)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(Unreadable, match=r"clip\.mp4 is a folder"):
        read_frames(tmp_path / "clip.mp4", eight)


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "concat:字幕 \"a\" 'b'\n%03d.mp4"
    path.write_bytes(GOOD.read_bytes())
    assert len(read_frames(path, eight).pixels) == 8


def test_what_was_shown_is_written_as_pictures(tmp_path: Path) -> None:
    from PIL import Image

    with observing(keeps_frames=True) as observed:
        frames = read_frames(GOOD, lambda count, fps: [10, 0, 10])
    for clip in ("one/good", "two/good"):
        write_frames(observed, tmp_path / "shown", clip)
    files = sorted((tmp_path / "shown").iterdir())
    times = ["000-frame10-0.40s.png", "001-frame0-0.00s.png", "002-frame10-0.40s.png"]
    assert [file.name for file in files] == [
        f"{n}__good-{t}" for n in ("one", "two") for t in times
    ]
    for file, pixels in zip(files, [*frames.pixels] * 2, strict=True):
        assert (np.asarray(Image.open(file)) == pixels).all()
