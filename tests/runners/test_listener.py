"""Whisper models of transformers by their own code, on a miniature: words and language."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ovmer.adapters.media import read_sound
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip
from ovmer.runners.parts import make, with_parts
from ovmer.runners.parts.asr import RATE, AsrSettings, Listener
from tests import SAMPLE
from tests.runners.jobs import job
from tests.runners.small_whisper import LANGUAGES, write_small_whisper

SOUNDS = [SAMPLE / "audio" / f"{name}.wav" for name in ("broken_promise", "farewell", "good_news")]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_whisper(tmp_path_factory.mktemp("whisper") / "it")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def heard(whisper: Path, sound: Path, language: str | None = None) -> dict[str, str]:
    listener = Listener(AsrSettings(name="it", model=str(whisper), language=language))
    listener.make(sound)
    found = listener.cache.find(sound)
    assert found is not None
    return found


def recording(folder: Path, samples: NDArray[np.float32]) -> Path:
    soundfile.write(folder / "it.wav", samples, RATE, subtype="FLOAT")
    return folder / "it.wav"


def by_transformers(whisper: Path, sound: Path, **asked: str) -> str:
    from transformers import pipeline

    asr = pipeline("automatic-speech-recognition", str(whisper), device="cpu")
    samples = read_sound(sound, RATE)  # by which it is resampled is not the matter here
    # The pipeline searches five beams unless it is asked not to.
    answer = asr({"raw": samples, "sampling_rate": RATE}, generate_kwargs=asked | {"num_beams": 1})
    return str(answer["text"]).strip()


def test_the_words_are_those_of_transformers_own_pipeline(whisper: Path):
    said = {
        (sound, language): heard(whisper, sound, language)["text"]
        for sound in SOUNDS
        for language in ("en", "chinese")
    }
    assert len(set(said.values())) > 3  # the miniature tells sounds and languages apart
    for (sound, language), text in said.items():
        assert text == by_transformers(whisper, sound, language=language, task="transcribe")


def test_the_language_is_found_where_none_is_given(whisper: Path):
    found = heard(whisper, SOUNDS[0])
    assert found["language"] in LANGUAGES
    assert found == heard(whisper, SOUNDS[0], found["language"])


def test_sounds_longer_than_its_window_are_heard_to_the_end(whisper: Path, tmp_path: Path):
    noise = np.random.default_rng(0).normal(size=65 * RATE).astype(np.float32) / 8
    whole = heard(whisper, recording(tmp_path, noise), "en")["text"]
    beginning = heard(whisper, recording(tmp_path, noise[: 30 * RATE]), "en")["text"]
    assert len(whole) > len(beginning)


def test_silence_is_not_put_to_the_model(tmp_path: Path):
    silence = recording(tmp_path, np.zeros(RATE, np.float32))
    assert heard(Path("there is no such model"), silence) == {"text": "", "language": None}


def test_a_run_says_what_was_heard_and_what_could_not_be(whisper: Path, tmp_path: Path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    sounds = [*SOUNDS, broken]
    clips = [Clip(each.stem, None, each, None, None, ()) for each in sounds]
    settings = job("asr=whisper_tiny", f"asr.model={whisper}", "machine.device=cpu").settings
    make(settings, clips, frozenset({"subtitle"}), "it")
    *good, bad = with_parts(settings, clips, frozenset({"subtitle"}))
    for each, sound in zip(good, SOUNDS, strict=True):
        found = heard(whisper, sound)
        assert each.subtitle == found["text"]
        assert each.notes == (
            f'the subtitle was heard by whisper_tiny ({found["language"]}): "{found["text"]}"',
        )
    assert bad.subtitle is None
    assert bad.notes[0].startswith("no subtitle could be heard by whisper_tiny: ")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(PrerequisiteError, match=r"asr.model=.*nowhere cannot be loaded.*hub id"):
        heard(tmp_path / "nowhere", SOUNDS[0])
