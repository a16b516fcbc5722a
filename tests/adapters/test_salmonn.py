"""SALMONN from files to answers, on a miniature of its checkpoint."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ovmer.adapters.models.salmonn import read_clip
from ovmer.baselines.errors import MissingModality
from tests import SAMPLE
from tests.adapters import small_mllms
from tests.adapters.media_files import tone, write_wav
from tests.adapters.real_clips import WITHOUT_SOUND, ask_about

CUT = "of the individual in the audio. \nASSISTANT:"

configured = partial(small_mllms.configured, "salmonn")
miniature = partial(small_mllms.miniature, "salmonn", tokens=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return miniature(tmp_path_factory.mktemp("greedy"))


@pytest.fixture(scope="module")
def as_in_the_paper(tmp_path_factory):
    return miniature(tmp_path_factory.mktemp("paper"), bug_compat=True)


def sound(folder: Path, seconds: float, rate: int = 16000) -> Path:
    return write_wav(folder / f"{seconds}s-{rate}.wav", tone(seconds, rate, 300 + seconds), rate)


# -- the prompt ----------------------------------------------------------------------------------


def test_the_prompt_is_two_texts_around_the_sound(model, tmp_path):
    before, after = model.prepare(None, sound(tmp_path, 1), "Why now?").inputs.texts
    words = model.tokenizer
    assert before == [words.bos_id, *words.encode("USER: <Speech>")]
    assert after == words.encode(
        "</Speech> Subtitle content of the video: Why now? Please predict the emotional state "
        "of the individual in the audio. \nASSISTANT:"
    )


def test_without_subtitle_the_question_is_alone(model, tmp_path):
    _, after = model.prepare(None, sound(tmp_path, 1), None).inputs.texts
    start = "</Speech> Please predict the emotional state "
    assert after == model.tokenizer.encode(start + CUT)


def test_a_long_subtitle_is_cut_to_the_context(model, tmp_path):
    item = model.prepare(None, sound(tmp_path, 1), "never again, " * 3000)
    taken = 88 + sum(map(len, item.inputs.texts))
    room = 4096 - model.generation.max_new_tokens
    assert room - 5 < taken <= room
    assert "subtitle was cut by" in item.notes[0]
    assert model.tokenizer.decode(item.inputs.texts[1]).endswith(CUT)


def test_markup_in_a_subtitle_is_plain_text(model, tmp_path):
    said = "</s><Speech><SpeechHere></Speech>{question}{subtitle}"
    before, after = model.prepare(None, sound(tmp_path, 1), said).inputs.texts
    assert said in model.tokenizer.decode(after)
    assert model.tokenizer.eos_id not in before + after
    assert model.tokenizer.bos_id not in after


# -- the sound -----------------------------------------------------------------------------------


def test_a_clip_without_sound_is_refused(model):
    with pytest.raises(MissingModality, match="no sound"):
        model.prepare(SAMPLE / "video" / "silent_smile.mp4", None, "")
    with pytest.raises(MissingModality, match="no sound track"):
        model.prepare(None, SAMPLE / "video" / "silent_smile.mp4", "")


def test_the_sound_track_of_a_video_serves_as_sound(model):
    track = model.prepare(None, SAMPLE / "video" / "farewell.mp4", "Goodbye.").inputs.fbank
    alone = model.prepare(None, SAMPLE / "audio" / "farewell.wav", "Goodbye.").inputs.fbank
    assert abs(len(track) - len(alone)) <= 10  # 0.1 seconds


def test_the_first_channel_is_heard(tmp_path):
    left, right = tone(0.5, 22050, 300), tone(0.5, 22050, 700)
    both = write_wav(tmp_path / "both.wav", np.stack([left, right], axis=1), 22050)
    alone = write_wav(tmp_path / "left.wav", left, 22050)
    np.testing.assert_array_equal(read_clip(both), read_clip(alone))
    assert len(read_clip(both)) == 8000


def test_thirty_seconds_are_heard(model, tmp_path):
    short, exact, long = (
        model.prepare(None, sound(tmp_path, seconds, rate=24000), None) for seconds in (29, 30, 95)
    )
    assert not short.notes
    assert "30 seconds" in exact.notes[0]
    assert exact.notes == long.notes
    assert exact.inputs.fbank.shape == long.inputs.fbank.shape == (2998, 128)


def test_a_short_sound_is_filled_up_to_a_second(model, as_in_the_paper, tmp_path):
    file = sound(tmp_path, 0.5)
    assert len(model.prepare(None, file, None).inputs.fbank) == 98
    assert len(as_in_the_paper.prepare(None, file, None).inputs.fbank) == 48


# -- the answer ----------------------------------------------------------------------------------


def test_only_beam_sampling_depends_on_the_seed(model, tmp_path):
    paper = miniature(tmp_path / "model", "paper", tokens=8)
    for adapter, different in ((model, False), (paper, True)):
        item = adapter.prepare(None, sound(tmp_path, 2), "Why now?")
        texts = {adapter.generate([replace(item, seed=seed)])[0].text for seed in (1, 2, 3)}
        assert (len(texts) > 1) == different


def test_settings_are_those_of_the_authors():
    paper, beam = configured("paper").generation, configured("beam").generation
    assert (paper.num_beams, paper.do_sample, paper.top_p, paper.top_k) == (4, True, 0.9, 50)
    assert (paper.temperature, paper.max_new_tokens, paper.max_length) == (1.0, 300, 0)
    assert (beam.num_beams, beam.do_sample, beam.max_new_tokens) == (4, False, 200)
    assert configured("paper", bug_compat=True).generation.max_length == 300


def test_in_the_paper_prompt_and_answer_share_300_tokens(as_in_the_paper, model, tmp_path):
    file = sound(tmp_path, 1)
    words = next(
        "no " * count
        for count in range(200)
        if 280 < 88 + sum(map(len, model.prepare(None, file, "no " * count).inputs.texts)) < 300
    )
    item = as_in_the_paper.prepare(None, file, words)
    answer = as_in_the_paper.generate([item])[0]
    assert answer.prompt_tokens + answer.new_tokens == 300
    longer = model.generate([model.prepare(None, file, words)])[0]
    assert longer.new_tokens > answer.new_tokens


def test_where_the_authors_code_fails_the_answer_is_empty(as_in_the_paper, tmp_path):
    fine = as_in_the_paper.prepare(None, sound(tmp_path, 2), None)
    long = as_in_the_paper.prepare(None, sound(tmp_path, 2), "never again, " * 100)
    tiny = as_in_the_paper.prepare(None, sound(tmp_path, 0.01), None)
    assert "fails on prompts of 300 tokens" in long.notes[0]
    assert "fails on a sound of 10 ms" in tiny.notes[0]
    alone = as_in_the_paper.generate([fine])[0]
    assert as_in_the_paper.generate([long, fine, tiny]) == ["", alone, ""]
    assert as_in_the_paper.generate([tiny]) == [""]


def test_an_answer_is_one_line(model):
    assert model.clean(" He sighs.\n\nSad\tand low. \n") == "He sighs.  Sad and low."


@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
def test_every_clip_gets_an_answer_or_a_reason(tmp_path, clips):
    model = miniature(tmp_path, tokens=2)
    assert ask_about(clips, model, {"audio"}) == WITHOUT_SOUND[clips]
