"""The data set that ships with the repository: small, complete, and lacking each modality once."""

import numpy as np
import pytest

from ovmer.adapters.media import read_frames, read_sound, sampling
from ovmer.baselines.errors import MissingModality
from ovmer.runners.data import Clip, read_dataset
from tests import SAMPLE
from tests.make_sample import SCENES
from tests.runners.jobs import job


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    settings = job("dataset=sample").settings.dataset
    return {clip.name: clip for clip in read_dataset({**settings, "visual": "face"})}


def test_it_is_what_the_recipe_says(clips: dict[str, Clip]) -> None:
    assert list(clips) == [scene.name for scene in SCENES]
    for scene in SCENES:
        assert clips[scene.name].subtitle == scene.english
        assert clips[scene.name].labels == scene.labels


def test_it_is_small() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert 8 <= len(SCENES) <= 12


def test_every_modality_is_missing_somewhere(clips: dict[str, Clip]) -> None:
    assert [name for name, clip in clips.items() if clip.video is None] == ["phone_call"]
    assert [name for name, clip in clips.items() if not clip.subtitle] == [
        "silent_smile",
        "second_thoughts",
    ]
    assert [name for name, clip in clips.items() if clip.face] == ["good_news", "farewell"]
    tracks = [name for name, clip in clips.items() if clip.audio == clip.video]
    assert tracks == ["silent_smile", "second_thoughts"]
    silent = clips["silent_smile"].audio
    assert silent is not None
    with pytest.raises(MissingModality):
        read_sound(silent, 16_000)


def test_pictures_move_and_sounds_are_heard(clips: dict[str, Clip]) -> None:
    for clip in clips.values():
        if clip.video is not None:
            frames = read_frames(clip.video, lambda count, fps: sampling.linspace(count, 4))
            assert frames.pixels.shape == (4, 192, 256, 3)
            assert 1.5 <= frames.count / frames.fps <= 3
            moved = np.abs(np.diff(frames.pixels.astype(int), axis=0)).mean(axis=(1, 2, 3))
            assert (moved > 0.5).all()
        if clip.audio is not None and clip.name != "silent_smile":
            samples = read_sound(clip.audio, 16_000)
            assert 1.5 <= len(samples) / 16_000 <= 3.1
            assert np.abs(samples).max() > 0.3


def test_faces_are_crops_of_the_video(clips: dict[str, Clip]) -> None:
    clip = clips["good_news"]
    assert clip.face is not None
    assert clip.video is not None
    face = read_frames(clip.face, lambda count, fps: [0])
    assert face.pixels.shape == (1, 112, 112, 3)
    frame = read_frames(clip.video, lambda count, fps: [0]).pixels[0, 24:136, 72:184]
    # The same picture before and after H.264; red and blue exchanged would be far off.
    assert np.abs(face.pixels[0].astype(int) - frame).mean() < 4
