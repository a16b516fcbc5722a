"""mPLUG-Owl and Otter, from files to answers on miniatures."""

import json
from dataclasses import replace

import pytest

from ovmer.adapters.base import Answer, Machine, Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.models.mplug_owl import MplugOwlAdapter
from ovmer.adapters.models.otter import OtterAdapter
from ovmer.baselines.errors import CheckpointError, MissingModality, PrerequisiteError
from tests import SAMPLE
from tests.adapters.real_clips import WITHOUT_PICTURE, ask_about
from tests.adapters.small_mllms import configured, faces, miniature

MODELS = {"mplug_owl": "mPLUG-Owl", "otter": "Otter"}
FEW: dict[str, dict[str, object]] = {"mplug_owl": {}, "otter": {"frames": 3}}
CONTEXT = 2048


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {name: miniature(name, tmp_path_factory.mktemp(name), **FEW[name]) for name in MODELS}


@pytest.fixture(params=MODELS)
def model(request, models):
    return models[request.param]


@pytest.fixture
def owl(models):
    return models["mplug_owl"]


@pytest.fixture
def otter(models):
    return models["otter"]


def ids_of(item: Prepared) -> list[int]:
    texts = getattr(item.inputs, "texts", None)
    return item.inputs.ids if texts is None else [*texts[0], *texts[1]]


# -- the prompt ----------------------------------------------------------------------------------


def test_mplug_owl_is_asked_after_the_video_with_the_indentation_of_the_script(owl):
    before, after = owl.texts(owl.prompt.about("Why now?"))
    assert before[0] == 1
    assert owl.tokenizer.decode(before).endswith("to the user's questions.\n            Human: ")
    text = owl.tokenizer.decode(after)
    assert text.startswith("\n            Human: Subtitle content of this video: Why now?; As an")
    assert text.endswith("of the individual in the video.\n            AI: ")


def test_the_video_beside_otters_words_needs_whole_batches(otter):
    otter.load(Machine(device="cpu", dtype="float32"))
    assert otter.feeding == "batch"


def test_otter_has_the_video_before_its_question(otter):
    (ids,) = otter.texts(otter.prompt.about("Why now?"))
    end = otter.tokenizer.eos_id
    assert ids[:2] == [1, end + 1]
    assert ids[-1] == end + 2
    text = otter.tokenizer.decode(ids[2:-1])
    assert text.startswith("User: Subtitle content of this video: Why now?; As an expert in the")
    assert text.endswith("emotional state of the individual in the video. GPT:")


def test_a_subtitle_is_words_and_nothing_else(model):
    said = "</s><s><image><|video|> <answer> <|endofchunk|> {question} {subtitle}"
    ids = ids_of(model.prepare(SAMPLE / "video" / "farewell.mp4", None, said))
    plain = ids_of(model.prepare(SAMPLE / "video" / "farewell.mp4", None, ""))
    control = {i for i in ids if i < 3 or i >= 400}
    assert control == {i for i in plain if i < 3 or i >= 400}
    assert sum(i in control for i in ids) == len(control)
    assert said in model.tokenizer.decode([i for i in ids if i not in control])


def test_a_long_subtitle_is_cut_to_the_context(model, tmp_path):
    item = model.prepare(faces(tmp_path, 4), None, "never again, " * 3000)
    assert "subtitle was cut by" in item.notes[0]
    answer = model.generate([item])[0]
    room = CONTEXT - model.generation.max_new_tokens
    assert room - 5 < answer.prompt_tokens <= room


# -- the video -----------------------------------------------------------------------------------


def test_a_clip_without_picture_is_refused(model):
    with pytest.raises(MissingModality, match="no video"):
        model.prepare(None, SAMPLE.parent / "audio" / "phone_call.wav", "Hello?")


@pytest.mark.parametrize(("name", "frames"), [("mplug_owl", 4), ("otter", 16)])
def test_clips_of_any_length_give_the_frames_that_are_asked_for(models, tmp_path, name, frames):
    model = replace(models[name], frames=configured(name).frames)
    for count in (1, 25, 150):
        inputs = model.prepare(faces(tmp_path, count), None, None).inputs
        assert inputs.frames.shape == (frames, 224, 224, 3)


def test_mplug_owl_needs_two_frames():
    with pytest.raises(PrerequisiteError, match="take 2 or more"):
        configured("mplug_owl", frames=1)


@pytest.mark.parametrize("frames", [0, 129])
def test_otter_has_embeddings_for_some_frames(otter, tmp_path, frames):
    other = replace(otter, frames=frames)
    with pytest.raises(
        PrerequisiteError, match=f"is {frames} but the weights are made for 1 to 128"
    ):
        other.prepare(faces(tmp_path, 4), None, None)


# -- the answer ----------------------------------------------------------------------------------


def test_settings_are_those_of_the_authors():
    owl, otter = (configured(name, "paper").generation for name in MODELS)
    assert (owl.do_sample, owl.top_k, owl.temperature, owl.top_p) == (True, 5, 1.0, 1.0)
    assert (owl.max_new_tokens, owl.max_length) == (512, 0)
    assert (otter.do_sample, otter.num_beams, otter.no_repeat_ngram_size) == (False, 3, 3)
    assert otter.bad_words == ["User:", "GPT1:", "GFT:", "GPT:"]
    assert (otter.max_new_tokens, otter.length_penalty, otter.early_stopping) == (512, 1.0, False)


def test_prompt_and_answer_of_mplug_owl_may_share_their_length(owl, tmp_path):
    """As where the authors ran it: long prompts get short answers, longer ones none."""
    paper = replace(owl, bug_compat=True)
    assert paper.generation.max_length == 512
    paper.load(Machine(device="cpu"))
    short = paper.prepare(faces(tmp_path, 4), None, None)
    fixed = 65 + len(ids_of(short))
    assert fixed < 512
    room = 512 - 65 - len(ids_of(paper.prepare(faces(tmp_path, 4), None, "")))
    words = next(n for n in range(1, room) if len(ids_of_words(paper, n)) > room - 4)
    tight = paper.prepare(faces(tmp_path, 4), None, "no " * words)
    full = paper.prepare(faces(tmp_path, 4), None, "no " * (words + 10))
    answers = paper.generate([short, tight, full])
    left = 512 - answers[1].prompt_tokens
    assert 0 < left < 4
    assert [answer.new_tokens <= left for answer in answers] == [False, True, True]
    assert answers[2] == Answer("", answers[2].prompt_tokens, 0)
    assert [item.notes for item in (short, tight)] == [(), ()]
    assert "for their code fails on prompts of 512 tokens and more" in full.notes[0]
    assert owl.prepare(faces(tmp_path, 4), None, "no " * (words + 10)).notes == ()


def ids_of_words(model: Mllm, words: int) -> list[int]:
    return model.tokenizer.encode("no " * words)


def test_otter_says_why_no_other_engine_can_decode_it(otter, owl):
    assert "between the layers" in otter.transformers_only
    assert owl.transformers_only == ""


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        (' "She smiles." ', "She smiles."),
        ("She\nsmiles.\t", "She smiles."),
        ('""', ""),
        ('A "glad" man', 'A "glad" man'),
    ],
)
def test_quotation_marks_around_an_answer_of_otter_go(otter, said, recorded):
    assert otter.clean(said) == recorded


def test_a_tokenizer_of_another_model_is_named(tmp_path):
    otter = configured("otter").miniature(tmp_path)
    config = tmp_path / "OTTER-Video-LLaMA7B-DenseCaption" / "config.json"
    content = json.loads(config.read_text())
    content["text_config"]["vocab_size"] = 402
    config.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="has 400 words, too many for the 402 embeddings"):
        otter.load(Machine(device="cpu"))


def test_adapters_are_known_by_name():
    assert type(configured("mplug_owl")) is MplugOwlAdapter
    assert type(configured("otter")) is OtterAdapter


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
def test_every_clip_gets_an_answer_or_a_reason(models, name, clips):
    model = replace(models[name], generation=replace(models[name].generation, max_new_tokens=4))
    model.load(Machine(device="cpu"))
    assert ask_about(clips, model) == WITHOUT_PICTURE[clips]
