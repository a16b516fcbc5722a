"""Subtitles by ear and crops of faces: made once, kept by content, part of the identity."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from ovmer import load
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip
from ovmer.runners.parts import make, with_parts
from ovmer.runners.parts.cache import PartCache
from ovmer.runners.parts.faces import IDENTITY, aligned, similarity
from tests import SAMPLE, loopback
from tests.runners.jobs import job

ALL = frozenset({"video", "audio", "subtitle"})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def ears(words: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server that hears the same words in everything; its address, and what it was sent."""
    requests: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"text": f" {words} "}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            pass

    with loopback.serving(Handler) as address:
        yield f"{address}/v1", requests


def test_a_clip_without_a_subtitle_gets_the_words_that_are_heard(tmp_path: Path) -> None:
    sound = SAMPLE / "audio" / "farewell.wav"
    clips = [Clip("a", None, sound, None, None, ()), Clip("b", None, sound, None, "Given.", ())]
    with ears("He is gone.") as (url, requests):
        settings = job("asr=whisper_tiny", f"asr.base_url={url}").settings
        assert [each.subtitle for each in with_parts(settings, clips, ALL)] == [None, "Given."]
        make(settings, clips, ALL, "it")
        a, b = with_parts(settings, clips, ALL)
        assert (a.subtitle, b.subtitle) == ("He is gone.", "Given.")
        assert a.notes == ('the subtitle was heard by whisper_tiny: "He is gone."',)
        assert b.notes == ()
        assert b"RIFF" in requests[0]
        copy = tmp_path / "copy.wav"
        shutil.copy(sound, copy)
        make(settings, [Clip("c", None, copy, None, None, ())], ALL, "it")
        assert len(requests) == 1  # known by its content
        every = job("asr=whisper_tiny", f"asr.base_url={url}", "asr.clips=all").settings
        assert [each.subtitle for each in with_parts(every, clips, ALL)] == ["He is gone."] * 2


def test_the_words_of_a_single_clip_are_heard_too() -> None:
    with (
        ears("I am so sad.") as (url, _),
        load("lexicon", "asr=whisper_tiny", f"asr.base_url={url}") as model,
    ):
        assert model.describe(audio=SAMPLE / "audio" / "farewell.wav") == "sad"


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    settings = job("asr=whisper_tiny", "asr.base_url=http://127.0.0.1:9/v1").settings
    clips = [Clip("a", None, SAMPLE / "audio" / "farewell.wav", None, None, ())]
    with pytest.raises(PrerequisiteError, match=r"asr\.base_url=http://127\.0\.0\.1:9/v1 does not"):
        make(settings, clips, ALL, "it")


def test_made_parts_are_in_the_identity_of_what_uses_them() -> None:
    plain, heard = job("baseline=lexicon"), job("baseline=lexicon", "asr=whisper_tiny")
    assert heard.identity.keys() - plain.identity.keys() == {"asr"}
    assert heard.folder.name == "lexicon-whisper_tiny"
    assert job("baseline=empty", "asr=whisper_tiny").identity == job("baseline=empty").identity


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(PrerequisiteError, match=r"add dataset.visual=face"):
        with_parts(job("faces=detect").settings, [], ALL)
    with pytest.raises(PrerequisiteError, match=r"asr\.clips is 'some'"):
        with_parts(job("asr=whisper_tiny", "asr.clips=some").settings, [], ALL)


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    cache = PartCache("test", {"version": 1})
    cache.keep(first, {"text": "words"})
    assert cache.find(second) == {"text": "words"}
    assert PartCache("test", {"version": 2}).find(first) is None
    second.write_bytes(b"other")
    assert cache.find(second) is None
    assert cache.find(tmp_path / "nowhere") is None


def test_a_similarity_is_found_again() -> None:
    source = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.5]])
    angle, scale, shift = 0.4, 1.7, np.array([3.0, -2.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found_scale, found_turn, found_shift = similarity(source, scale * source @ turn.T + shift)
    assert found_scale == pytest.approx(scale)
    assert found_turn == pytest.approx(turn)
    assert found_shift == pytest.approx(shift)


def test_a_crop_has_eyes_and_mouth_where_openface_has_them() -> None:
    """Marks at the landmarks of a turned face end where the mean shape of OpenFace has them."""
    eyes_and_mouth = np.array([[80, 60], [120, 80], [95, 90], [70, 100], [95, 118]], np.float64)
    frame = np.zeros((200, 200, 3), np.uint8)
    for x, y in eyes_and_mouth[:2].astype(int):
        frame[y - 2 : y + 3, x - 2 : x + 3] = 255
    crop = aligned(frame, eyes_and_mouth)
    assert crop.shape == (112, 112, 3)
    rows, columns = np.nonzero(crop[..., 0] > 128)
    left, right = columns < 56, columns >= 56
    # Within three pixels, as four points of this face are no exact image of the mean shape.
    assert columns[left].mean() == pytest.approx(33, abs=3)
    assert columns[right].mean() == pytest.approx(79, abs=3)
    assert rows.mean() == pytest.approx(29, abs=3)


def test_faces_are_found_cropped_and_kept() -> None:
    pytest.importorskip("facenet_pytorch")
    settings = job("faces=detect", "dataset.visual=face", "machine.device=cpu").settings
    names = ("good_news", "silent_smile")
    clips = [Clip(n, SAMPLE / "video" / f"{n}.mp4", None, None, None, ()) for n in names]
    make(settings, clips, ALL, "it")
    face, none = (each.face for each in with_parts(settings, clips, ALL))
    assert face is not None
    crops = np.load(face)
    assert crops.dtype == np.uint8
    assert crops.shape[1:] == (112, 112, 3)
    assert none is None or np.load(none).size  # a drawn face may pass for none
    written = face.stat().st_mtime_ns
    make(settings, clips, ALL, "it")
    assert face.stat().st_mtime_ns == written


def test_a_clip_without_a_face_falls_back_only_if_asked(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"no face in it")
    clip = Clip("a", video, None, None, None, ())
    found = {}
    for missing in ("record", "frame"):
        chosen = ("faces=detect", f"faces.missing={missing}", "dataset.visual=face")
        settings = job(*chosen).settings
        PartCache("faces", IDENTITY).keep(video, {"crops": 0, "most": 0})
        found[missing] = with_parts(settings, [clip], ALL)[0]
    assert found["record"].face is None
    assert found["record"].notes == (
        "no face was found in its video: faces.missing=frame shows whole frames then",
    )
    assert found["frame"].face == video
    assert found["frame"].notes == ("no face was found, so whole frames are shown",)


def test_a_face_that_is_seldom_there_is_noted(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"a face now and then")
    PartCache("faces", IDENTITY).keep(video, {"crops": 3, "frames": 100, "most": 2})
    settings = job("faces=detect", "dataset.visual=face").settings
    (clip,) = with_parts(settings, [Clip("a", video, None, None, None, ())], ALL)
    assert clip.face is not None
    assert clip.notes == (
        "up to 2 faces in a frame; the largest is shown",
        "a face was found in 3 of 100 frames",
    )
