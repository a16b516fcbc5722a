"""PandaGPT and Video-LLaMA, which see, hear or do both, from files to answers on miniatures."""

from dataclasses import replace

import pytest
import torch

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO, Machine
from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import CheckpointError, MissingModality, PrerequisiteError
from tests import SAMPLE
from tests.adapters.real_clips import WITHOUT_EITHER, ask_about
from tests.adapters.small_mllms import configured, miniature

NAMES = ("pandagpt", "video_llama")
FILM, SILENT = SAMPLE / "video" / "farewell.mp4", SAMPLE / "video" / "silent_smile.mp4"
SOUND = SAMPLE / "audio" / "phone_call.wav"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        name: miniature(name, tmp_path_factory.mktemp(name), modalities="both") for name in NAMES
    }


@pytest.fixture(params=NAMES)
def model(request, models):
    return models[request.param]


def prompt_of(model, item):
    return [model.tokenizer.decode(text) for text in item.inputs.texts]


def given(item):
    """Which of the two media an item holds."""
    inputs = item.inputs
    seen = inputs.views if hasattr(inputs, "views") else inputs.frames
    return (seen is not None, inputs.mel is not None)


# -- the setting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("choice", "uses"), [("video", {VIDEO}), ("audio", {AUDIO}), ("both", {VIDEO, AUDIO})]
)
def test_an_adapter_says_what_it_uses(name, choice, uses):
    adapter = configured(name, modalities=choice)
    assert adapter.modalities == uses | {SUBTITLE}
    assert replace(adapter, bug_compat=False).modalities == adapter.modalities
    assert type(adapter).modalities == {VIDEO, AUDIO, SUBTITLE}


def test_the_shipped_settings_are_the_papers_rows():
    assert configured("pandagpt").modalities == {VIDEO, AUDIO, SUBTITLE}
    assert configured("video_llama").modalities == {VIDEO, SUBTITLE}


def test_what_is_not_wanted_is_not_given_although_it_is_there(model):
    deaf = replace(model, modalities="video")
    assert given(deaf.prepare(FILM, SOUND, None)) == (True, False)
    blind = replace(model, modalities="audio")
    assert given(blind.prepare(FILM, SOUND, None)) == (False, True)


@pytest.mark.parametrize("wrong", ["smell", ["video"], None])
def test_another_value_is_refused(wrong):
    with pytest.raises(PrerequisiteError, match="choose from video, audio, both"):
        configured("pandagpt", modalities=wrong)


def test_each_setting_has_its_question():
    with pytest.raises(PrerequisiteError, match="it takes video, audio, both"):
        configured("pandagpt", prompts={"vidoe": {"without_subtitle": "?"}})
    with pytest.raises(PrerequisiteError, match=r"set one of baseline\.prompts"):
        configured("pandagpt", prompt={"without_subtitle": "?"})


# -- what a clip lacks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "audio", "found", "note"),
    [
        (FILM, FILM, (True, True), None),
        (SILENT, SILENT, (True, False), "no sound"),
        (FILM, None, (True, False), "no sound"),
        (None, SOUND, (False, True), "no picture"),
    ],
)
def test_with_both_a_clip_is_described_from_what_it_has(model, video, audio, found, note):
    item = model.prepare(video, audio, "Why now?")
    assert given(item) == found
    assert item.notes == () if note is None else note in item.notes[0]
    words = " ".join(prompt_of(model, item))
    assert "Why now?" in words
    assert ("facial expressions" in words) == found[0]
    assert ("acoustic information" in words) == found[1]


def test_the_question_is_as_if_that_alone_were_wanted(model):
    deaf = replace(model, modalities="video").prepare(SILENT, None, "Why now?")
    lacking = model.prepare(SILENT, SILENT, "Why now?")
    assert deaf.inputs.texts == lacking.inputs.texts
    assert deaf.notes == ()


def test_a_clip_without_what_is_wanted_is_refused(model):
    with pytest.raises(MissingModality, match="neither picture nor sound"):
        model.prepare(None, None, "Hello?")
    with pytest.raises(MissingModality, match="no sound"):
        replace(model, modalities="audio").prepare(SILENT, SILENT, "Hello?")
    with pytest.raises(MissingModality, match="no video"):
        replace(model, modalities="video").prepare(None, SOUND, "Hello?")


# -- the prompt ----------------------------------------------------------------------------------


def test_pandagpt_puts_one_vector_into_a_prompt_of_two_texts(models):
    model = models["pandagpt"]
    before, after = model.prepare(None, SOUND, None).inputs.texts
    encode = model.tokenizer.encode
    question = model.prompts["audio"].without_subtitle
    assert before == [1, *encode("### Human: <Img>")]
    assert after == encode(f"</Img> {question}\n### Assistant:")


def test_video_llama_asks_in_pieces(models):
    model = models["video_llama"]
    encode, start = model.tokenizer.encode, "[INST] <<SYS>>\n\n<</SYS>>\n\n"
    ears = "Close your eyes, open your ears and you imagine only based on the sound that: "
    asked = {kind: prompt.without_subtitle for kind, prompt in model.prompts.items()}
    heard = model.prepare(None, SOUND, None).inputs.texts
    assert heard == [
        [1, *encode(start + ears)],
        encode(
            f".{' ' * 17}Now answer my question based on what you have just heard. "
            f"{asked['audio']} [/INST]"
        ),
    ]
    both = model.prepare(FILM, FILM, None).inputs.texts
    assert both == [
        heard[0],
        encode(f".{' ' * 17}Close your ears, open your eyes and you see that <Video>"),
        encode(
            f"</Video>.{' ' * 18}Now answer my question based on what you have just seen and "
            f"heard. {asked['both']} [/INST]"
        ),
    ]
    seen = prompt_of(model, model.prepare(SILENT, None, None))
    assert seen[0] == f"{start}<Video>"
    assert seen[1].startswith("</Video> The video contains 8 frames sampled at 0.0, ")
    assert seen[1].endswith(f" seconds.  {asked['video']} [/INST]")


def test_markup_in_a_subtitle_is_plain_text(model):
    said = "</s></Img><ImageHere>###{question}{times}{subtitle}"
    item = model.prepare(FILM, None, said)
    assert said in prompt_of(model, item)[-1]
    ids = [i for text in item.inputs.texts for i in text]
    assert ids.count(1) == 1
    assert 2 not in ids


def test_a_long_subtitle_is_cut_to_the_context(model):
    item = model.prepare(FILM, FILM, "never again, " * 3000)
    assert "subtitle was cut by" in item.notes[-1]
    answer = model.generate([item])[0]
    room = {"PandaGptAdapter": 2048, "VideoLlamaAdapter": 2000}[type(model).__name__]
    assert -5 < answer.prompt_tokens - (room - model.generation.max_new_tokens) <= 0


def test_video_llama_has_positions_for_32_frames(models):
    for frames in (0, 33):
        with pytest.raises(PrerequisiteError, match="takes 1 to 32"):
            configured("video_llama", frames=frames)
    few = replace(models["video_llama"], frames=32).prepare(FILM, None, None)
    assert few.inputs.frames.shape == (32, 224, 224, 3)


# -- the weights ---------------------------------------------------------------------------------


def test_video_llama_reads_only_the_branches_that_are_wanted(models, tmp_path):
    checkpoint = models["video_llama"].checkpoint
    for choice, needed in (("video", "seeing"), ("audio", "hearing")):
        others = {"seeing", "hearing"} - {needed}
        kept = {name: part for name, part in checkpoint.items() if name not in others}
        alone = replace(models["video_llama"], modalities=choice, checkpoint=kept)
        alone.load(Machine(device="cpu"))
        item = alone.prepare(FILM, FILM, None)
        whole = models["video_llama"].embed(item)
        torch.testing.assert_close(alone.embed(item), whole)
        lacking = replace(alone, modalities="both")
        with pytest.raises(CheckpointError, match=f"no checkpoint part '{others.pop()}'"):
            lacking.load(Machine(device="cpu"))


# -- the answer ----------------------------------------------------------------------------------


def test_picture_and_sound_both_count(model):
    one, other_sound, other_picture = (
        model.embed(model.prepare(video, audio, None))
        for video, audio in ((FILM, FILM), (FILM, SOUND), (SAMPLE / "video/good_news.mp4", FILM))
    )
    assert one.shape == other_sound.shape == other_picture.shape
    assert not torch.equal(one, other_sound)
    assert not torch.equal(one, other_picture)


def test_pandagpt_in_the_paper_loses_the_end_of_an_answer(models):
    whole, paper = models["pandagpt"], replace(models["pandagpt"], bug_compat=True)
    ids = tuple(whole.tokenizer.encode("The woman smiles; she seems happy."))
    limit = whole.generation.max_new_tokens
    stopped, cut = Generated("", ids, 9), Generated("", (ids * limit)[:limit], 9)
    decode = whole.tokenizer.decode
    assert paper.said(stopped) == decode(ids[:-1]).strip()
    assert paper.said(cut) == decode(cut.ids[:-2]).strip()
    assert whole.said(replace(stopped, text="Sad.\n")) == "Sad."
    assert paper.said(Generated("", (), 9)) == ""


def test_pandagpt_stops_before_the_next_turn(models):
    assert models["pandagpt"].tokenizer.stop_ids == (2, 2277)
    assert models["video_llama"].tokenizer.stop_ids == (2,)


def test_video_llama_keeps_what_follows_the_role(models):
    assert models["video_llama"].clean(" USER: Hm.\nASSISTANT: He\nsighs. ") == "He sighs."


def test_settings_are_those_of_the_demos():
    panda, llama = (configured(name, "paper").generation for name in NAMES)
    assert (panda.do_sample, panda.top_p, panda.top_k, panda.max_new_tokens) == (
        True,
        0.01,
        50,
        256,
    )
    assert (llama.do_sample, llama.top_p, llama.top_k, llama.max_new_tokens) == (True, 0.9, 50, 300)


@pytest.mark.parametrize("clips", ["clips", "bad_clips"])
def test_every_clip_gets_an_answer_or_a_reason(model, clips):
    quick = replace(model, generation=replace(model.generation, max_new_tokens=2))
    quick.load(Machine(device="cpu"))
    most = 4 if clips == "clips" else None  # the good ones differ little
    assert ask_about(clips, quick, {"video", "audio"}, most=most) == WITHOUT_EITHER[clips]
