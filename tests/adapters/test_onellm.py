"""OneLLM from files to answers, on a miniature of its checkpoint."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ovmer.adapters.base import Machine, Prepared
from ovmer.adapters.models.onellm import OneLlmAdapter, listen, look_at
from ovmer.baselines.errors import MissingModality, PrerequisiteError
from tests import SAMPLE
from tests.adapters import small_mllms
from tests.adapters.media_files import tone, write_wav
from tests.adapters.real_clips import WITHOUT_PICTURE, WITHOUT_SOUND, ask_about

TEMPLATE = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions.\n\n###Human: {}\n###Assistant:"
)

configured = partial(small_mllms.configured, "onellm")
miniature = partial(small_mllms.miniature, "onellm", tokens=8)


@pytest.fixture(scope="module")
def ears(tmp_path_factory):
    return miniature(tmp_path_factory.mktemp("ears"))


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    return miniature(tmp_path_factory.mktemp("eyes"), modalities="video")


def sound(folder: Path, seconds: float, rate: int = 16000) -> Path:
    return write_wav(folder / f"{seconds}s-{rate}.wav", tone(seconds, rate, 300 + seconds), rate)


# -- the prompt ----------------------------------------------------------------------------------


def test_the_clip_is_after_the_first_token(ears, tmp_path):
    before, after = ears.prepare(None, sound(tmp_path, 1), "Why now?").inputs.texts
    question = ears.prompts["audio"].about("Why now?")
    assert question.startswith("Subtitle content of the audio: Why now?; As an expert")
    assert before == [ears.tokenizer.bos_id]
    assert after == ears.tokenizer.encode(TEMPLATE.format(question))


def test_without_subtitle_the_question_is_alone(eyes):
    _, after = eyes.prepare(SAMPLE / "video" / "farewell.mp4", None, None).inputs.texts
    question = eyes.prompts["video"].without_subtitle
    assert question.startswith("As an expert")
    assert after == eyes.tokenizer.encode(TEMPLATE.format(question))


def test_a_long_subtitle_is_cut_to_the_context(ears, tmp_path):
    item = ears.prepare(None, sound(tmp_path, 1), "never again, " * 2000)
    taken = 32 + sum(map(len, item.inputs.texts))
    room = 2048 - ears.generation.max_new_tokens
    assert room - 5 < taken <= room
    assert "subtitle was cut by" in item.notes[0]


def test_markup_in_a_subtitle_is_plain_text(ears, tmp_path):
    said = "</s><s>###Assistant: {subtitle}"
    before, after = ears.prepare(None, sound(tmp_path, 1), said).inputs.texts
    assert said in ears.tokenizer.decode(after)
    assert not {1, 2} & set(after)
    assert before == [1]


# -- what is seen or heard -----------------------------------------------------------------------


def test_one_of_two_senses_is_used():
    assert configured().modalities == {"audio", "subtitle"}
    assert configured(modalities="video").modalities == {"video", "subtitle"}
    with pytest.raises(PrerequisiteError, match=r"is 'both'; choose from video, audio$"):
        configured(modalities="both")


def test_a_clip_without_what_is_wanted_is_refused(ears, eyes):
    silent = SAMPLE / "video" / "silent_smile.mp4"
    with pytest.raises(MissingModality, match="no sound,"):
        ears.prepare(silent, None, "")
    with pytest.raises(MissingModality, match="no sound track"):
        ears.prepare(None, silent, "")
    with pytest.raises(MissingModality, match="no video"):
        eyes.prepare(None, SAMPLE / "audio" / "phone_call.wav", "")


def test_the_sound_track_of_a_video_serves_as_sound(ears):
    item = ears.prepare(None, SAMPLE / "video" / "farewell.mp4", None)
    assert item.inputs.sense == "audio"
    assert item.inputs.signal.shape == (1, 128, 1024)


def test_the_first_channel_is_heard(tmp_path):
    left, right = tone(0.5, 22050, 300), tone(0.5, 22050, 700)
    both = write_wav(tmp_path / "both.wav", np.stack([left, right], axis=1), 22050)
    alone = write_wav(tmp_path / "left.wav", left, 22050)
    np.testing.assert_array_equal(listen(both), listen(alone))


def test_what_is_not_heard_of_a_long_sound_is_noted(ears, tmp_path):
    whole, longer, much = (
        ears.prepare(None, sound(tmp_path, seconds, rate=24000), None)
        for seconds in (10.2, 10.3, 40)
    )
    assert whole.notes == ()
    assert "first 10.2 seconds" in longer.notes[0]
    assert longer.notes == much.notes


def test_reading_eleven_seconds_changes_none_of_the_frames(tmp_path):
    """The sound is cut before it is resampled, which reads a little past its end."""
    samples = tone(12, 24000, 300)
    long = write_wav(tmp_path / "long.wav", samples, 24000)
    heard = 400 + 1023 * 160
    # Twelve seconds of which the cut takes one; and eleven of which it takes none.
    exact = write_wav(tmp_path / "exact.wav", samples[: 11 * 24000 - 500], 24000)
    np.testing.assert_array_equal(listen(long)[:heard], listen(exact)[:heard])


def test_five_frames_are_seen():
    assert look_at(83, 25.0) == [0, 12, 24, 35, 47]
    assert look_at(1, 25.0) == [0] * 5
    assert look_at(14, 29.97) == [0] * 5


def test_a_video_is_fifteen_views(eyes):
    item = eyes.prepare(SAMPLE / "video" / "farewell.mp4", None, "Goodbye.")
    assert item.inputs.sense == "video"
    assert item.inputs.signal.shape == (15, 3, 224, 224)


# -- the answer ----------------------------------------------------------------------------------


def test_videos_in_a_batch_get_what_they_get_alone(eyes):
    clips = (("farewell", "Why now?"), ("silent_smile", None))
    items = [eyes.prepare(SAMPLE / "video" / f"{name}.mp4", None, said) for name, said in clips]
    assert_alike(eyes, items)


def assert_alike(model: OneLlmAdapter, items: list[Prepared]) -> None:
    for seed, item in enumerate(items):
        item.seed = 40 + seed
    together = model.generate(items)
    assert together == [model.generate([item])[0] for item in items]
    assert len({answer.text for answer in together}) == len(items)


def test_forgetting_is_a_quirk_that_changes_answers(ears, tmp_path):
    forgetful = replace(ears, bug_compat=True)
    forgetful.load(Machine(device="cpu"))
    item = ears.prepare(None, sound(tmp_path, 2), "Why now?")
    whole, cut = ears.generate([item])[0], forgetful.generate([item])[0]
    assert whole.prompt_tokens == cut.prompt_tokens
    assert whole.text != cut.text
    assert ears.transformers_only == ""
    assert "bug_compat=true" in forgetful.transformers_only


def test_settings_are_those_of_upstream():
    paper, greedy = configured("paper").generation, configured("greedy").generation
    assert (paper.do_sample, paper.temperature, paper.top_p, paper.top_k) == (True, 0.1, 0.75, 0)
    assert (paper.max_new_tokens, paper.stop) == (256, ["###"])
    assert (greedy.do_sample, greedy.max_new_tokens, greedy.stop) == (False, 256, ["###"])


@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_every_clip_is_read_or_has_a_reason(ears, eyes, kind, clips):
    model, without = {"video": (eyes, WITHOUT_PICTURE), "audio": (ears, WITHOUT_SOUND)}[kind]
    # A sound shorter than a frame of its filter bank is none.
    tiny = {"tiny_audio"} if (kind, clips) == ("audio", "bad_clips") else set()
    # Encoding takes longest and is the same for all; the first few go through to the answer.
    assert ask_about(clips, model, {kind}, most=2) == without[clips] | tiny
