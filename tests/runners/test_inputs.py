"""`inputs=`: what is taken from a clip, what that does to a run's identity, and what it brings."""

from pathlib import Path

import numpy as np
import pytest

from ovmer import sweep
from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.adapters.media import configure, read_frames, read_sound
from ovmer.adapters.media.blank import PICTURE, SOUND, blanking
from ovmer.adapters.media.settings import MediaSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.ablation import AblationRun, changes
from ovmer.runners.config import INPUTS
from ovmer.runners.data import Clip
from ovmer.runners.describing.inputs import check, give
from ovmer.runners.scoring import score
from tests import SAMPLE
from tests.runners.jobs import job

ALL = frozenset({VIDEO, AUDIO, SUBTITLE})
CLIPS = [
    Clip(name, Path(f"{name}.mp4"), Path(f"{name}.wav"), Path(f"{name}.npy"), f"I am {name}.", ())
    for name in "abcde"
]


def parts(inputs: str) -> set[tuple[bool, bool, bool, frozenset[str]]]:
    return {
        (
            each.video is not None,
            each.audio is not None,
            each.subtitle is not None,
            each.blank,
        )
        for each in give(inputs, CLIPS, seed=0)
    }


@pytest.mark.parametrize(
    ("inputs", "left"),
    [
        ("all", (True, True, True, frozenset())),
        ("video", (True, False, False, frozenset())),
        ("audio", (False, True, False, frozenset())),
        ("subtitle", (True, True, True, frozenset({PICTURE, SOUND}))),
        ("no_subtitle", (True, True, False, frozenset())),
        ("swapped_audio", (True, True, True, frozenset())),
        ("black_video", (True, True, True, frozenset({PICTURE}))),
        ("silence", (True, True, True, frozenset({SOUND}))),
    ],
)
def test_what_is_left_of_a_clip(inputs: str, left: tuple[bool, bool, bool, frozenset[str]]) -> None:
    assert inputs in INPUTS
    assert parts(inputs) == {left}


def test_a_swapped_sound_is_anothers_and_depends_on_the_seed_alone() -> None:
    given = give("swapped_audio", CLIPS, seed=0)
    sounds = [each.audio for each in given]
    assert sorted(map(str, sounds)) == sorted(str(clip.audio) for clip in CLIPS)
    assert all(sound != clip.audio for sound, clip in zip(sounds, CLIPS, strict=True))
    assert given == give("swapped_audio", CLIPS, seed=0)
    assert {each.name: each for each in given} == {
        each.name: each for each in give("swapped_audio", CLIPS[::-1], seed=0)
    }
    assert any(give("swapped_audio", CLIPS, seed) != given for seed in range(1, 5))
    stem = Path(str(sounds[0])).stem
    assert given[0].notes == (f"the sound is that of the clip {stem!r}",)


def test_one_sound_alone_cannot_be_swapped() -> None:
    with pytest.raises(PrerequisiteError, match="needs two clips with sound, and a alone"):
        give("swapped_audio", CLIPS[:1], seed=0)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_blank_media_have_the_shape_of_the_real_ones(seconds: float) -> None:
    video = SAMPLE / "video" / "farewell.mp4"
    configure(MediaSettings(seconds=seconds))
    try:
        frames = read_frames(video, lambda count, fps: [0, count - 1])
        sound = read_sound(SAMPLE / "audio" / "farewell.wav", 16_000)
        with blanking({PICTURE}):
            black = read_frames(video, lambda count, fps: [0, count - 1])
            heard = read_sound(SAMPLE / "audio" / "farewell.wav", 16_000)
        with blanking({SOUND}) as blanked:
            silence = read_sound(SAMPLE / "audio" / "farewell.wav", 16_000)
    finally:
        configure(MediaSettings())
    assert frames.pixels.any()
    assert not black.pixels.any()
    assert black.pixels.shape == frames.pixels.shape
    assert (black.indices, black.fps) == (frames.indices, frames.fps)
    assert np.array_equal(heard, sound)
    assert not silence.any()
    assert (silence.shape, silence.dtype) == (sound.shape, sound.dtype)
    assert blanked.reads == 1


@pytest.mark.parametrize(
    ("inputs", "uses", "said"),
    [
        ("audio", {VIDEO, SUBTITLE}, "leaves it nothing: it uses subtitle, video"),
        ("silence", {VIDEO}, "changes nothing: it uses video"),
        ("no_subtitle", {AUDIO}, "changes nothing: it uses audio"),
    ],
)
def test_a_pair_that_says_nothing_is_refused(inputs: str, uses: set[str], said: str) -> None:
    with pytest.raises(PrerequisiteError, match=said):
        check(inputs, frozenset(uses), "it")
    check(inputs, ALL, "it")


def test_inputs_are_part_of_identity_and_folder() -> None:
    whole, less = job("baseline=lexicon"), job("baseline=lexicon", "inputs=no_subtitle")
    assert "inputs" not in whole.identity
    assert less.identity == {**whole.identity, "inputs": "no_subtitle"}
    assert less.folder.name == "lexicon-no_subtitle"
    with pytest.raises(PrerequisiteError, match="inputs is 'no_sutitle'; did you mean no_subtitle"):
        job("inputs=no_sutitle")


def test_a_difference_is_paired_and_answers_are_compared_by_clip() -> None:
    truth = dict.fromkeys("abcd", "happy")
    answers = dict.fromkeys("abcd", "happy")
    fewer = answers | {"a": "sad", "b": "sad"}
    rows = [
        AblationRun("m", job("baseline=lexicon").settings, answers, score(answers, truth)),
        AblationRun(
            "m-silence",
            job("baseline=lexicon", "inputs=silence").settings,
            fewer,
            score(fewer, truth),
        ),
        AblationRun("other", job("baseline=random", "inputs=silence").settings, fewer),
    ]
    (found,) = changes(rows)
    assert (found.whole, found.name, found.inputs) == ("m", "m-silence", "silence")
    assert (found.changed, found.both) == (("a", "b"), 4)
    assert found.difference is not None
    assert found.interval is not None
    low, high = found.interval
    assert 0 <= low < found.difference < high
    assert changes(rows[::-1])[0].difference == found.difference


def test_a_job_that_never_began_is_in_the_summary(on_data, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails = ("+baseline.generate_fails={a: bug}", "on_error=raise", "inputs=all,silence")
    sweep(["baseline=scripted", *fails, *on_data])
    assert "scripted-silence" in capsys.readouterr().out


def test_a_sweep_ends_with_what_each_input_brings(command, on_data, tmp_path) -> None:
    arguments = ["-m", "baseline=lexicon", "inputs=all,no_subtitle,video", *on_data]
    done = command("sweep", *arguments)
    assert done.returncode == 1  # lexicon sees no video
    assert "inputs=video leaves it nothing" in done.stderr
    table = done.stdout.partition("what each input brings")[2]
    assert "no_subtitle" in table
    assert "6 of 6" in table
    report = command("report", "outputs")
    assert report.returncode == 0, report.stderr
