"""Nothing that is read can hang or end a run: the time limit, crashes, pipes, and the system."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovmer.adapters.media import (
    MediaSettings,
    configure,
    observing,
    pool,
    read_frames,
    read_sound,
    sampling,
)
from ovmer.baselines.errors import PrerequisiteError, Timeout, Unavailable, Unreadable
from tests import SAMPLE
from tests.adapters.media_files import write_video

GOOD = SAMPLE / "video" / "good_news.mp4"


def eight(count: int, fps: float) -> list[int]:
    return sampling.linspace(count, 8)


def children() -> list[int]:
    """Processes that read for this one."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "media.child" in line]


@pytest.fixture
def limit():
    """Sets the time limit of reading for one test."""
    yield lambda seconds: configure(MediaSettings(seconds=seconds))
    configure(MediaSettings())


@pytest.mark.parametrize("name", ["a.mp4", "a.wav", "a.npy"])
def test_a_file_that_never_ends_is_a_timeout(tmp_path, name, limit, monkeypatch):
    """A child that does not answer (it is stopped, as native code in a loop would be)."""
    path = tmp_path / name
    source = {"a.mp4": GOOD, "a.wav": SAMPLE / "audio" / "good_news.wav"}.get(name)
    if source is None:
        np.save(path, np.zeros((9, 8, 8, 3), np.uint8))
    else:
        path.write_bytes(source.read_bytes())

    def read():
        return read_sound(path, 16_000) if name.endswith("wav") else read_frames(path, eight)

    read()  # the children are there
    stopped = children()
    assert stopped
    for child in stopped:
        os.kill(child, signal.SIGSTOP)
    limit(0.5)
    with pytest.raises(Timeout, match=rf"{name} was not read within 0\.5 s, the limit media"):
        read()
    limit(300)
    for child in stopped:
        if Path(f"/proc/{child}").exists():
            os.kill(child, signal.SIGCONT)
    assert read() is not None, "the next file is read by another child"


def test_frames_are_the_same_without_a_child_and_belong_to_the_caller(limit):
    apart = read_frames(GOOD, eight).pixels
    limit(0)
    here = read_frames(GOOD, eight).pixels
    np.testing.assert_array_equal(here, apart)
    here += 1  # decord's own memory would refuse this
    np.testing.assert_array_equal(read_frames(GOOD, eight).pixels, apart)


def test_a_child_that_crashes_costs_one_clip(tmp_path):
    read_frames(GOOD, eight)

    def crash(count, fps):
        for child in children():
            os.kill(child, signal.SIGSEGV)
        return [0]

    with pytest.raises(Unreadable, match=r"the library that read it crashed \(SIGSEGV\)"):
        read_frames(GOOD, crash)
    assert len(read_frames(GOOD, eight).pixels) == 8


def test_a_child_that_is_ended_from_outside_is_no_fault_of_the_clip():
    def end(count, fps):
        for child in children():
            os.kill(child, signal.SIGTERM)
        return [0]

    with pytest.raises(Unavailable, match=r"good_news\.mp4 ended"):
        read_frames(GOOD, end)
    assert len(read_frames(GOOD, eight).pixels) == 8


def test_an_error_of_the_rule_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        read_frames(GOOD, lambda count, fps: [count // 0])
    assert len(read_frames(GOOD, eight).pixels) == 8


@pytest.mark.parametrize("name", ["clip.mp4", "clip.wav", "clip.npy"])
def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = read_sound if name.endswith("wav") else read_frames
    with pytest.raises(Unreadable, match=f"{name} is a named pipe"):
        read(tmp_path / name, 16_000 if read is read_sound else eight)
    link = tmp_path / f"null-{name}"
    link.symlink_to("/dev/null")
    with pytest.raises(Unreadable, match="is a device"):
        read(link, 16_000 if read is read_sound else eight)


def test_errors_of_the_system_are_named_and_pass(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(GOOD.read_bytes())

    def no_handles(*arguments, **options):
        raise OSError(24, "Too many open files")

    pool.close()
    monkeypatch.setattr(subprocess, "Popen", no_handles)
    with pytest.raises(Unavailable, match=r"Too many open files \(EMFILE\); the next run tries"):
        read_frames(path, eight)
    monkeypatch.undo()
    assert len(read_frames(path, eight).pixels) == 8


@pytest.mark.parametrize(("number", "name"), [(13, "EACCES"), (5, "EIO"), (116, "ESTALE")])
def test_what_the_system_refuses_is_unavailable(tmp_path, limit, monkeypatch, number, name):
    path = tmp_path / "clip.mp4"
    path.write_bytes(GOOD.read_bytes())

    def refuse(self, **options):
        raise OSError(number, os.strerror(number))

    limit(0)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(Unavailable, match=rf"{os.strerror(number)} \({name}\)"):
        read_frames(path, eight)


def test_frames_of_8k_are_read_smaller_and_the_memory_is_bounded(tmp_path):
    """Two take 200 MB as they are, and as much again when they are joined."""
    one = np.full((4320, 7680, 3), 90, np.uint8)
    pictures = np.broadcast_to(one, (2, *one.shape))
    clip = write_video(tmp_path / "clip.mp4", pictures, codec="mjpeg", pixels="yuvj420p")
    pool.close()
    with observing() as observed:
        frames = read_frames(clip, lambda count, fps: [0, 1]).pixels
    (child,) = children()
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    status = dict(line.split(":") for line in lines)
    pool.close()
    assert frames.shape == (2, 2304, 4096, 3)
    assert any("to save memory" in note for note in observed.notes)
    assert int(status["VmHWM"].split()[0]) < 350_000, "kB; it is 211 MB"


def test_without_a_limit_this_process_reads(limit):
    limit(0)
    before = children()
    here = read_frames(GOOD, eight)
    assert children() == before
    limit(300)
    np.testing.assert_array_equal(here.pixels, read_frames(GOOD, eight).pixels)


def test_no_child_outlives_its_parent():
    code = (
        "import os, sys; from pathlib import Path; from ovmer.adapters.media import read_frames;"
        "read_frames(Path(sys.argv[1]), lambda count, fps: [0]);"
        "print(os.popen('ps -o pid=,args= --ppid %d' % os.getpid()).read(), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(GOOD)], capture_output=True, text=True)
    pids = [int(line.split()[0]) for line in done.stdout.splitlines() if "media.child" in line]
    assert pids
    for pid in pids:
        for _ in range(100):
            state = Path(f"/proc/{pid}/stat")
            if not state.exists() or state.read_text().split()[2] == "Z":
                break
            signal.sigtimedwait([], 0.05)
        else:
            pytest.fail("a child is still there")


def test_wrong_settings_are_refused():
    with pytest.raises(PrerequisiteError, match=r"media\.reader is 'opencv'; choose from auto"):
        MediaSettings(reader="opencv")
    with pytest.raises(PrerequisiteError, match=r"media\.seconds is -1; give at least 0"):
        MediaSettings(seconds=-1)
