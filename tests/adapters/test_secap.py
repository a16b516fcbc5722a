"""SECap from files to answers, on a miniature of its checkpoint."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import MissingModality, PrerequisiteError
from ovmer.baselines.layers.text2vec import Text2Vec, most_alike
from tests import SAMPLE
from tests.adapters import small_mllms
from tests.adapters.media_files import tone, write_wav
from tests.adapters.real_clips import WITHOUT_SOUND, ask_about

QUESTION = "请用一句中文简述音频里说话者的情感表现："

job = partial(small_mllms.made, "secap")
configured = partial(small_mllms.configured, "secap")
miniature = partial(small_mllms.miniature, "secap", tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return miniature(tmp_path_factory.mktemp("greedy"), "greedy")


def sound(folder: Path, seconds: float, rate: int = 16000) -> Path:
    return write_wav(folder / f"{seconds}s-{rate}.wav", tone(seconds, rate, 300 + seconds), rate)


def test_the_question_follows_the_sound_after_a_second_start_token(model, tmp_path):
    before, after = model.prepare(None, sound(tmp_path, 1), None).inputs.texts
    assert before == [1]
    assert after == [1, *model.tokenizer.encode(QUESTION)]


def test_the_subtitle_is_not_heard(model, tmp_path):
    file = sound(tmp_path, 1)
    said, unsaid = (model.prepare(None, file, subtitle).inputs for subtitle in ("Why?", None))
    assert said.texts == unsaid.texts
    assert not job().uses_subtitle


def test_sound_has_one_channel_and_unit_variance(model, tmp_path):
    both = np.stack([tone(1, 22050, 300), tone(1, 22050, 700)], axis=1)
    heard = model.prepare(None, write_wav(tmp_path / "both.wav", both, 22050), None).inputs.sound
    assert heard.shape == (16000,)
    assert float(heard.mean()) == pytest.approx(0, abs=1e-6)
    assert float(heard.square().mean()) == pytest.approx(1, abs=1e-5)


def test_a_short_sound_is_filled_up_with_silence(model, tmp_path):
    assert len(model.prepare(None, sound(tmp_path, 0.01), None).inputs.sound) == 400


def test_a_clip_without_sound_is_refused(model):
    with pytest.raises(MissingModality, match="no sound"):
        model.prepare(SAMPLE / "video" / "silent_smile.mp4", None, "")
    with pytest.raises(MissingModality, match="no sound track"):
        model.prepare(None, SAMPLE / "video" / "silent_smile.mp4", "")


def test_settings_are_those_of_the_models_authors():
    paper = configured("paper")
    assert (paper.candidates, paper.kept) == (8, 5)
    settings = paper.generation
    assert (settings.num_beams, settings.do_sample, settings.early_stopping) == (5, True, True)
    assert (settings.top_k, settings.top_p, settings.temperature) == (10, 0.95, 1.0)
    assert (settings.repetition_penalty, settings.no_repeat_ngram_size) == (10.0, 2)
    assert (settings.min_new_tokens, settings.max_new_tokens) == (3, 50)
    for preset in ("beam", "greedy"):
        other = configured(preset).generation
        assert not other.do_sample
        assert (other.repetition_penalty, other.no_repeat_ngram_size) == (10.0, 2)
    with pytest.raises(PrerequisiteError, match="which is 8"):
        configured(kept=9)


def test_of_several_answers_the_first_that_is_kept_counts(tmp_path, monkeypatch):
    model = miniature(tmp_path / "model", "paper", candidates=3, kept=2)
    item = replace(model.prepare(None, sound(tmp_path, 1), None), seed=7)
    drawn: list[list[str]] = []
    vectors = Text2Vec.forward
    monkeypatch.setattr(
        Text2Vec, "forward", lambda self, texts: drawn.append(texts) or vectors(self, texts)
    )
    chosen = model.generate([item])[0]
    assert len(set(drawn[0])) == 3, "the answers are drawn with one and the same stream"
    place = Placement(torch.device("cpu"), torch.float32)
    similarity = Text2Vec.load(model.parts["similarity"], place)
    kept = most_alike(similarity(drawn[0]), 2)
    assert chosen.text == drawn[0][kept[0]]


@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
def test_every_clip_gets_an_answer_or_a_reason(tmp_path, clips):
    model = miniature(tmp_path, tokens=3)
    assert ask_about(clips, model, {"audio"}) == WITHOUT_SOUND[clips]
