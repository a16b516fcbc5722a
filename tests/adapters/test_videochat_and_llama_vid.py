"""VideoChat and LLaMA-VID, which look through EVA-ViT, from files to answers on miniatures."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ovmer.adapters.models.llama_vid import LlamaVidAdapter
from ovmer.adapters.models.videochat import VideoChatAdapter, time_message
from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import CheckpointError, MissingModality, PrerequisiteError
from ovmer.baselines.tokenizer import BertTokenizer
from tests import SAMPLE
from tests.adapters.real_clips import WITHOUT_PICTURE, ask_about
from tests.adapters.small_mllms import configured, faces, miniature

MODELS = {"videochat": "VideoChat", "llama_vid": "LLaMA-VID"}
FEW = {"videochat": {"frames": 2}, "llama_vid": {"most_frames": 2}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {name: miniature(name, tmp_path_factory.mktemp(name)) for name in MODELS}


@pytest.fixture(params=MODELS)
def model(request, models):
    return models[request.param]


# -- the prompt ----------------------------------------------------------------------------------


def test_videochat_gets_the_times_of_its_frames(models, tmp_path):
    item = models["videochat"].prepare(faces(tmp_path, 100), None, "Why now?")
    before, after = item.inputs.texts
    decode = models["videochat"].tokenizer.decode
    assert before[0] == 1
    assert decode(before) == "###Human: <Video>"
    assert decode(after).startswith(
        "</Video> The video contains 8 frames sampled at 0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2, 3.7 "
        "seconds.\n###Human: Subtitle content of the video: Why now?; As an expert"
    )
    assert decode(after).endswith("emotional state of the individual in the video. \n###Assistant:")


def test_the_time_message_is_upstreams(request):
    """The golden data have the sentence and the prompt around it as upstream made them."""
    cases = sorted((request.config.getoption("golden_root") / "videochat").glob("case*.npz"))
    assert cases
    for case in cases:
        with np.load(case, allow_pickle=False) as arrays:
            indices, fps = arrays["frame_indices"].tolist(), float(arrays["fps"])
            message = time_message(indices, fps)
            assert message == str(arrays["time_message"])
            assert str(arrays["prompt_text"]).startswith(
                f"###Human: <Video><VideoHere></Video> {message}\n###Human: "
            )
            assert str(arrays["prompt_text"]).endswith(" \n###Assistant:")


def test_seconds_are_rounded_as_upstream_rounds():
    """Its indices are numpy's here and Python's in Video-LLaMA; 0.15 is no half in binary."""
    assert "sampled at 0.0, 0.2, 0.4 seconds" in time_message([0, 3, 7], 20.0)
    assert "sampled at 0.0, 0.1, 0.3 seconds" in time_message([0, 3, 7], 20.0, numpys=False)


def test_llama_vid_asks_after_the_video(models):
    item = models["llama_vid"].prepare(SAMPLE / "video" / "farewell.mp4", None, "Why now?")
    before, after = item.inputs.texts
    decode = models["llama_vid"].tokenizer.decode
    assert before[0] == 1
    assert decode(before) == LlamaVidAdapter.template[0]
    assert decode(after).startswith("\nSubtitle content of this video: Why now?; As an expert")
    assert decode(after).endswith("emotional state of the individual in the video. ASSISTANT:")


def test_llama_vids_template_has_the_words_of_upstream(request):
    """The golden ids come from a stand-in that gives each word its number."""
    cases = sorted((request.config.getoption("golden_root") / "llama_vid").glob("case*.npz"))
    assert cases
    numbers: dict[str, int] = {}
    for case in cases:
        with np.load(case, allow_pickle=False) as arrays:
            before, after = (arrays[f"prompt_ids_{side}"].tolist() for side in ("before", "after"))
        question = json.loads(case.with_suffix(".prompt.json").read_text())
        first, last = LlamaVidAdapter.template
        words = [*first.split(), *last.replace("{question}", question).split()]
        ids = [*before[1:], *after]
        # The slot's own blank and line break are words of their own to the stand-in, if any.
        assert 0 <= len(ids) - len(words) <= 3
        for word, number in zip(first.split(), before[1:], strict=False):
            assert numbers.setdefault(word, number) == number
    assert len(set(numbers.values())) > 0.8 * len(numbers)  # a few words share a number


def test_llama_vids_second_reader_gets_the_bare_question(models):
    model = models["llama_vid"]
    item = model.prepare(SAMPLE / "video" / "farewell.mp4", None, "Why now?")
    question = model.prompt.about("Why now?")
    pieces = BertTokenizer(model.parts["bert"] / "vocab.txt")
    assert item.inputs.question == pieces.encode(question, 256)
    long = model.prepare(
        SAMPLE / "video" / "farewell.mp4", None, "never again, " * 200
    ).inputs.question
    assert len(long) == 256
    assert long[-20:] == item.inputs.question[-20:]  # the end of the question is what it keeps
    assert long[0] == item.inputs.question[0]


def test_a_subtitle_is_words_and_nothing_else(model):
    said = "</s><image>[SEP] ###Assistant: {question} {subtitle} {times} <VideoHere>"
    item = model.prepare(SAMPLE / "video" / "farewell.mp4", None, said)
    before, after = item.inputs.texts
    assert sorted(before + after).count(1) == 1
    assert 2 not in before + after
    assert said in model.tokenizer.decode(before + after)


def test_a_long_subtitle_is_cut_to_the_context(model, tmp_path):
    item = model.prepare(faces(tmp_path, 4), None, "never again, " * 3000)
    assert "subtitle was cut by" in item.notes[0]
    answer = model.generate([item])[0]
    room = model.sizes.context - model.generation.max_new_tokens
    assert room - 5 < answer.prompt_tokens <= room


# -- the video -----------------------------------------------------------------------------------


def test_a_clip_without_picture_is_refused(model):
    with pytest.raises(MissingModality, match="no video"):
        model.prepare(None, SAMPLE / "audio" / "phone_call.wav", "Hello?")


def test_videochat_sees_eight_frames(models, tmp_path):
    for count in (1, 7, 200):
        inputs = models["videochat"].prepare(faces(tmp_path, count), None, None).inputs
        assert tuple(inputs.frames.shape) == (8, 224, 224, 3)


def test_llama_vid_sees_a_frame_a_second(models, tmp_path):
    for count, seen in ((1, 1), (25, 1), (26, 2), (100, 4)):
        inputs = models["llama_vid"].prepare(faces(tmp_path, count), None, None).inputs
        assert tuple(inputs.frames.shape) == (seen, 224, 224, 3)
    thinned = configured("llama_vid", most_frames=3).miniature(tmp_path / "model")
    inputs = thinned.prepare(faces(tmp_path, 200), None, None).inputs
    assert tuple(inputs.frames.shape) == (3, 224, 224, 3)


@pytest.mark.parametrize(("name", "field"), [("videochat", "frames"), ("llama_vid", "most_frames")])
def test_a_frame_at_least(name, field):
    with pytest.raises(PrerequisiteError, match="at least 1"):
        configured(name, **{field: 0})


def test_what_a_clip_shows_depends_on_what_is_asked(models):
    model = models["llama_vid"]
    said = [
        model.prepare(SAMPLE / "video" / "farewell.mp4", None, subtitle)
        for subtitle in ("Why now?", "Oh!")
    ]
    prompts = [model.embed(item) for item in said]
    start, count = len(said[0].inputs.texts[0]), 2 * len(said[0].inputs.frames)
    first, second = (prompt[start : start + count] for prompt in prompts)
    assert not first[0::2].equal(second[0::2])  # contexts
    assert first[1::2].equal(second[1::2])  # contents


# -- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" She smiles.\nShe is\thappy. ", "She smiles. She is happy."),
        ("Human: why? Assistant: She is sad.", "She is sad."),
        ("Assistant: one Assistant:\n two<s>", "two"),
    ],
)
def test_videochats_answer_follows_the_last_role(text, kept):
    assert configured("videochat").clean(text) == kept


def test_in_the_paper_an_answer_that_ends_by_itself_says_so(models):
    plain = models["videochat"]
    paper = replace(plain, bug_compat=True)
    words = plain.tokenizer.encode("She is glad.")
    more = plain.tokenizer.encode("She is glad.### Human:")
    full = words * plain.generation.max_new_tokens
    for ids, text, ended in (
        (words, "She is glad.", True),
        (more, "She is glad.", False),  # cut at the stop string
        (full[: plain.generation.max_new_tokens], "She is", False),  # cut at the greatest length
    ):
        answer = Generated(text, tuple(ids), 9)
        assert plain.said(answer) == text
        assert paper.said(answer) == text + "</s>" * ended


def test_settings_are_those_of_the_authors():
    chat, vid = (configured(name, "paper").generation for name in MODELS)
    assert (chat.do_sample, chat.temperature, chat.top_p, chat.top_k) == (True, 1.0, 0.9, 50)
    assert (chat.max_new_tokens, chat.stop) == (1000, ["###"])
    assert (vid.do_sample, vid.temperature, vid.top_p, vid.top_k) == (True, 0.5, 0.7, 50)
    assert (vid.max_new_tokens, vid.stop) == (512, [])


def test_adapters_are_known_by_name():
    assert type(configured("videochat")) is VideoChatAdapter
    assert type(configured("llama_vid")) is LlamaVidAdapter


def test_a_part_that_is_nowhere_is_named():
    with pytest.raises(CheckpointError, match=r"baseline\.checkpoint\.vision\.path"):
        configured("videochat").parts["vision"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
def test_every_clip_gets_an_answer_or_a_reason(tmp_path, name, clips):
    model = miniature(name, tmp_path, tokens=4, **FEW[name])
    assert ask_about(clips, model) == WITHOUT_PICTURE[clips]
