"""Every clip of ../shared/bad_clips and ../shared/clips, file by file, and what is left behind."""

import csv
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ovmer.adapters.media import Frames, read_frames, read_sound, sampling
from ovmer.baselines.errors import ClipError, MissingModality, Unreadable
from tests import SAMPLE
from tests.adapters.media_files import SHARED, tone, write_sound_only, write_wav

BAD = SHARED / "bad_clips" / "mer2025-dataset"
REAL = SHARED / "clips" / "mer2025-dataset"

Outcome = tuple[int, ...] | type[ClipError]
DAMAGED, ABSENT = Unreadable, MissingModality
USUAL = (50, 120, 160)  # frames in the file, height, width
TWO_SECONDS = 32_000

# name: what the video gives, what the wav gives at 16 kHz
EXPECTED: dict[str, tuple[Outcome, Outcome]] = {
    "good": (USUAL, (TWO_SECONDS,)),
    "empty_file": (DAMAGED, DAMAGED),
    "truncated": (DAMAGED, (TWO_SECONDS,)),
    "bit_rot": (USUAL, (TWO_SECONDS,)),  # the decoder conceals what was overwritten
    "text_file": (DAMAGED, DAMAGED),
    "sound_only": (ABSENT, (TWO_SECONDS,)),
    "silent": (USUAL, ABSENT),
    "one_frame": ((1, 120, 160), (TWO_SECONDS,)),
    "three_frames": ((3, 120, 160), (TWO_SECONDS,)),
    "thin": ((50, 16, 3840), (TWO_SECONDS,)),
    "mpeg4": (USUAL, (TWO_SECONDS,)),
    "hevc10": (USUAL, (TWO_SECONDS,)),
    "variable_rate": ((20, 120, 160), (TWO_SECONDS,)),
    "rotated": (USUAL, (TWO_SECONDS,)),
    "stereo48k": (USUAL, (TWO_SECONDS,)),
    "eight_bit": (USUAL, (TWO_SECONDS,)),
    "float32": (USUAL, (TWO_SECONDS,)),
    "six_channels": (USUAL, (TWO_SECONDS,)),
    "mp3_as_wav": (USUAL, (TWO_SECONDS,)),
    "header_only": (USUAL, DAMAGED),
    "tiny_audio": (USUAL, (160,)),
    "digital_silence": (USUAL, (TWO_SECONDS,)),
    "long_audio": (USUAL, (95 * 16_000,)),
    "missing_files": (ABSENT, ABSENT),
    "字幕 名 with spaces": (USUAL, (TWO_SECONDS,)),
    "long_subtitle": (USUAL, (TWO_SECONDS,)),
    "injected": (USUAL, (TWO_SECONDS,)),
}

needs_bad_clips = pytest.mark.skipif(
    not BAD.is_dir(), reason="needs ../shared/bad_clips, which does not ship with the repository"
)
needs_real_clips = pytest.mark.skipif(
    not REAL.is_dir(), reason="needs ../shared/clips, which does not ship with the repository"
)


def eight(count: int, fps: float) -> list[int]:
    return sampling.linspace(count, 8)


def read(path: Path) -> Frames | NDArray[np.float32] | ClipError:
    try:
        return read_sound(path, 16_000) if path.suffix == ".wav" else read_frames(path, eight)
    except ClipError as error:
        return error


def outcome(path: Path) -> Outcome:
    """What reading gives: (frames, height, width), (samples,), or the kind of failure."""
    result = read(path)
    if isinstance(result, ClipError):
        assert path.stem in str(result)
        assert "\n" not in str(result)
        assert len(str(result)) < 300
        return type(result)
    if isinstance(result, Frames):
        assert len(result.pixels) == 8
        return (result.count, *result.pixels.shape[1:3])
    assert result.dtype == np.float32
    assert np.abs(result).max() <= 1
    return result.shape


@needs_bad_clips
def test_no_bad_clip_is_left_out() -> None:
    with (BAD.parent / "what_is_wrong.csv").open(encoding="utf-8", newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} == set(EXPECTED)


@needs_bad_clips
@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_clip(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture, sound = EXPECTED[name]
    assert outcome(BAD / "video" / f"{name}.mp4") == picture
    assert outcome(BAD / "audio" / f"{name}.wav") == sound
    assert capfd.readouterr() == ("", "")


@needs_bad_clips
def test_sound_tracks_of_bad_clips() -> None:
    def track(name: str) -> NDArray[np.float32]:
        return read_sound(BAD / "video" / f"{name}.mp4", 16_000)

    # 87 packets of 1,024 samples at 44.1 kHz; the pause that AAC begins with is among them. From
    # PyAV 19 on FFmpeg leaves out what fills up the last packet.
    is_trimmed = int(av.__version__.partition(".")[0]) >= 19
    assert len(track("good")) == len(track("sound_only")) == (32_000 if is_trimmed else 32_323)
    for name in ("silent", "hevc10", "one_frame", "thin", "rotated", "variable_rate"):
        with pytest.raises(MissingModality, match="has no sound track"):
            track(name)
    for name in ("empty_file", "truncated", "text_file", "bit_rot"):
        with pytest.raises(Unreadable, match=f"{name}.mp4"):
            track(name)


@needs_real_clips
def test_every_real_clip() -> None:
    videos = {path.stem: outcome(path) for path in (REAL / "video").iterdir()}
    assert videos == {
        "baby_sunglasses": (243, 360, 640),
        "batting": (300, 320, 426),
        "birthday": (417, 336, 596),
        "iron_man": (240, 480, 854),
        "silence_girl": (293, 336, 596),
        "toddler": (146, 360, 640),
    }
    sounds = sorted((REAL / "audio").iterdir())
    assert len(sounds) == 13
    for path in sounds:
        assert 30_000 < len(read_sound(path, 16_000)) < 200_000
    silent = {name for name in videos if not (REAL / "audio" / f"{name}.wav").exists()}
    for name in silent:
        with pytest.raises(MissingModality):
            read_sound(REAL / "video" / f"{name}.mp4", 16_000)


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def some_files(tmp_path: Path) -> list[Path]:
    """One file of each sort, good and bad, for frames and for sound."""
    good = (SAMPLE / "video" / "good_news.mp4").read_bytes()
    for name, data in (("empty", b""), ("half", good[: len(good) // 2]), ("text", b"no" * 99)):
        (tmp_path / f"{name}.mp4").write_bytes(data)
        (tmp_path / f"{name}.wav").write_bytes(data)
    write_wav(tmp_path / "stereo.wav", np.stack([tone(1, 44_100)] * 2, 1), 44_100)
    write_sound_only(tmp_path / "voice.mp4", seconds=2.0, rate=44_100)
    made = sorted(tmp_path.iterdir())
    shipped = [SAMPLE / "video" / f"{name}.mp4" for name in ("good_news", "silent_smile")]
    return [*made, *shipped, SAMPLE / "openface_face" / "farewell" / "farewell.npy"]


def read_everything(paths: list[Path]) -> None:
    for path in paths:
        read(path)
        if path.suffix == ".mp4":
            with suppress(ClipError):
                read_sound(path, 16_000)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts handles in /proc")
def test_no_handle_stays_open_and_memory_is_flat(some_files: list[Path]) -> None:
    read_everything(some_files)  # imports, and what libraries keep once
    gc.collect()
    handles, memory = open_handles(), megabytes()
    for _ in range(40):
        read_everything(some_files)
    gc.collect()
    assert open_handles() == handles
    # decord's AudioReader would keep the samples of every sound track: 20 MB here.
    assert megabytes() - memory < 8


@needs_bad_clips
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts handles in /proc")
def test_no_bad_clip_leaves_a_handle_open() -> None:
    paths = [*(BAD / "video").iterdir(), *(BAD / "audio").iterdir()]
    read_everything(paths)
    gc.collect()
    handles = open_handles()
    for _ in range(3):
        read_everything(paths)
    gc.collect()
    assert open_handles() == handles


def test_many_threads_read_the_same_frames() -> None:
    paths = sorted((SAMPLE / "video").iterdir()) * 4
    alone = {path: read_frames(path, eight).pixels for path in set(paths)}
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda path: read_frames(path, eight).pixels, paths)
        for path, pixels in zip(paths, together, strict=True):
            np.testing.assert_array_equal(pixels, alone[path])


def test_damage_of_any_kind_is_a_clip_error(tmp_path: Path) -> None:
    """Bytes overwritten at random: whatever happens, it is a result or a ClipError."""
    rng = np.random.default_rng(0)
    sources = [SAMPLE / "video" / "plain_answer.mp4", SAMPLE / "audio" / "plain_answer.wav"]
    failed = 0
    for round_ in range(60):
        source = sources[round_ % 2]
        data = bytearray(source.read_bytes())
        # Headers stand at the front of a wav and at the end of an mp4.
        near = rng.integers(0, 3000, 12)
        for place in near if source.suffix == ".wav" else len(data) - 1 - near:
            data[place] = rng.integers(256)
        path = tmp_path / f"damaged{round_}{source.suffix}"
        path.write_bytes(data)
        failed += isinstance(read(path), ClipError)
    assert 10 < failed < 60
