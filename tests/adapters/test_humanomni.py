"""HumanOmni and R1-Omni: from files to answers on miniatures of both sizes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from ovmer.adapters.base import Machine
from ovmer.adapters.models.humanomni import listen
from ovmer.baselines.checkpoint import CheckpointPart
from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.continuous import ContinuousEngine
from ovmer.baselines.errors import CheckpointError, MissingModality, PrerequisiteError
from tests import SAMPLE
from tests.adapters.media_files import tone, write_wav
from tests.runners.jobs import job

NAMES = ("humanomni", "r1_omni", "emer_sft", "mafw_dfew", "human_omni_7b")
FILM, SILENT = SAMPLE / "video" / "farewell.mp4", SAMPLE / "video" / "silent_smile.mp4"
SOUND = SAMPLE / "audio" / "farewell.wav"
CPU = Machine("cpu", "float32")
KINDS = (("video", "mp4"), ("audio", "wav"))
SUBTITLE = "<video> Why now?<|im_end|>"


def configured(name, *overrides):
    return job(f"baseline={name}", "generation=greedy", *overrides).adapter


@pytest.fixture(scope="module")
def r1(tmp_path_factory):
    adapter = configured("r1_omni").miniature(tmp_path_factory.mktemp("r1"))
    adapter.load(CPU)
    return adapter


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return configured("human_omni_7b").miniature(tmp_path_factory.mktemp("large"))


def texts(adapter, item):
    """The prompt around its slots, control tokens included."""
    pieces = Tokenizer.from_file(str(path_of(adapter, "model") / "tokenizer.json"))
    return [pieces.decode(ids, skip_special_tokens=False) for ids in item.inputs.texts]


def prompt_of(adapter, item):
    """The embeddings that the language model reads."""
    (encoded,) = adapter.encode([item])
    return encoded.inputs.prompt


def path_of(adapter, part):
    return Path(adapter.checkpoint[part].path)


def elsewhere(adapter, **paths):
    """The same adapter with parts of its checkpoint in other folders."""
    parts = {name: CheckpointPart(path=str(path)) for name, path in paths.items()}
    return replace(adapter, checkpoint=adapter.checkpoint | parts)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_checkpoint_is_asked_as_its_authors_ask(name):
    adapter = configured(name)
    both = adapter.prompts["both"].without_subtitle
    if name in ("r1_omni", "emer_sft"):
        assert both == (
            "As an emotional recognition expert; throughout the video, which emotion conveyed by "
            "the characters is the most obvious to you?  Output the thinking process in <think> "
            "</think> and final emotion in <answer> </answer> tags."
        )
        assert adapter.thinking == "think"
    else:
        assert both == (
            "As an emotional recognition expert, in the video, when the characters display their "
            "emotions, which predominant feeling is most clearly expressed?\n"
        )
        assert adapter.thinking == "none"
    assert adapter.prompts["both"].with_subtitle.endswith(f"; {both}")
    assert adapter.prompts["video"] == adapter.prompts["both"]
    assert adapter.checkpoint["model"].repo.startswith("StarJiaxing/")
    for preset in ("greedy", "paper"):
        generation = job(f"baseline={name}", f"generation={preset}").adapter.generation
        assert (generation.do_sample, generation.max_new_tokens) == (False, 2048)


def test_a_wrong_setting_is_an_error_that_lists_the_choices():
    with pytest.raises(PrerequisiteError, match=r"baseline\.projector is 'small'"):
        configured("humanomni", "baseline.projector=small")
    with pytest.raises(PrerequisiteError, match=r"baseline\.thinking is 'thinks'"):
        configured("humanomni", "baseline.thinking=thinks")


# -- prompts -------------------------------------------------------------------------------------


def test_the_prompt_is_the_authors(r1):
    question = r1.prompts["both"].without_subtitle
    before, between, after = texts(r1, r1.prepare(FILM, SOUND, None))
    assert before == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\n<vi_start>"
    )
    assert between == "<vi_end>\n<au_start>"
    assert after == f"<au_end>\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_a_subtitle_that_spells_a_slot_or_a_control_token_is_text(r1):
    item = r1.prepare(FILM, SOUND, SUBTITLE)
    *_, after = item.inputs.texts
    end = r1.tokenizer.eos_id
    assert len(item.inputs.texts) == 3
    assert after.count(end) == 1
    assert SUBTITLE in r1.tokenizer.decode(after)


def test_bert_reads_the_bare_question_and_of_a_long_one_the_beginning(r1):
    short, long = (r1.prepare(FILM, SOUND, words) for words in (None, "no " * 900))
    assert len(short.inputs.question) < 512
    assert len(long.inputs.question) == 512
    *most, end = long.inputs.question
    assert end == short.inputs.question[-1]
    assert most[:5] == r1.prepare(FILM, SOUND, "no " * 9).inputs.question[:5]


def test_a_long_subtitle_is_cut_to_the_context(tmp_path):
    adapter = configured("r1_omni").miniature(tmp_path)
    file = tmp_path / "R1-Omni-0.5B" / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"max_position_embeddings": 1600}))
    item = adapter.prepare(FILM, SOUND, "never again " * 400)
    assert any("subtitle was cut" in note for note in item.notes)
    assert 392 + 500 + sum(map(len, item.inputs.texts)) <= 1600 - adapter.generation.max_new_tokens


# -- picture and sound ---------------------------------------------------------------------------


def test_both_media_and_the_question_reach_the_model(r1):
    item = r1.prepare(FILM, SOUND, None)
    plain, given = prompt_of(r1, item), item.inputs
    for changed in (
        replace(given, frames=given.frames.flip(0)),
        replace(given, mel=given.mel.flip(1)),
        replace(given, question=given.question[:9]),
    ):
        other = prompt_of(r1, replace(item, inputs=changed))
        assert other.shape == plain.shape
        assert (other - plain).abs().max() > 0.01


def test_the_sizes_are_those_of_the_papers(r1, large):
    for adapter, seen in ((r1, 392), (large, 3136)):
        item = adapter.prepare(FILM, SOUND, None)
        alone = adapter.prepare(FILM, None, None)
        adapter.load(CPU)
        whole, less = (len(prompt_of(adapter, each)) for each in (item, alone))
        assert whole == seen + 500 + sum(map(len, item.inputs.texts))
        assert less == seen + sum(map(len, alone.inputs.texts))


def test_a_clip_without_sound_is_described_from_its_picture_with_a_note(r1):
    item = r1.prepare(SILENT, None, "Hm.")
    assert item.inputs.mel is None
    assert item.notes == ("the clip has no sound, so it was described from its picture alone",)
    assert texts(r1, item)[-1].startswith("<vi_end>\nSubtitle content of this video: Hm.; As an")
    with pytest.raises(MissingModality):
        r1.prepare(None, None, "Hm.")


def test_a_clip_without_picture_is_described_from_its_sound_with_a_note(r1):
    item = r1.prepare(None, SOUND, None)
    assert item.inputs.frames is None
    assert item.notes == ("the clip has no picture, so it was described from its sound alone",)
    asked = "<au_end>\nAs an emotional recognition expert; throughout the audio"
    assert texts(r1, item)[-1].startswith(asked)


def test_the_authors_silence_comes_with_the_switch_alone(r1):
    theirs = replace(r1, bug_compat=True)
    item = theirs.prepare(SILENT, None, None)
    assert torch.all(item.inputs.mel == -1.5)
    assert len(item.inputs.texts) == 3
    assert "10 s of silence" in item.notes[0]
    with pytest.raises(MissingModality):  # upstream has no answer to this
        theirs.prepare(None, None, None)


def test_two_channels_are_mixed_as_ffmpeg_mixes_them(tmp_path):
    one = tone(0.5, 16000)
    mono = listen(write_wav(tmp_path / "mono.wav", one, 16000))
    stereo = listen(write_wav(tmp_path / "stereo.wav", np.stack([one, one], axis=1), 16000))
    assert np.allclose(stereo, np.sqrt(2) * mono, atol=1e-4)


def test_a_long_sound_is_cut_to_30_seconds_with_a_note(r1, tmp_path):
    sound = np.concatenate([tone(30, 16000), tone(4, 16000, 880)])
    long = r1.prepare(None, write_wav(tmp_path / "long.wav", sound, 16000), None)
    short = r1.prepare(None, write_wav(tmp_path / "short.wav", sound[: 30 * 16000], 16000), None)
    assert any("30 seconds" in note for note in long.notes)
    assert not any("30 seconds" in note for note in short.notes)
    assert torch.equal(long.inputs.mel, short.inputs.mel)


# -- answers -------------------------------------------------------------------------------------

WHOLE = "<think>\nShe frowns.\nHer voice is low.\n</think>\n<answer>sad</answer>"
ANSWERS = [
    ("whole", WHOLE, "She frowns.\nHer voice is low.", "sad", False),
    ("cut while thinking", "<think>She frowns and", "She frowns and", "", True),
    ("cut answer", "<think>She frowns.</think><answer>sa", "She frowns.", "sa", False),
    ("no thinking", "<answer>sad</answer>", "", "sad", False),
    ("no tags", "She is sad.", "", "She is sad.", False),
    ("think not closed", "<think>A frown. <answer>sad</answer>", "A frown.", "sad", False),
    ("twice", f"{WHOLE}\n{WHOLE}", "She frowns.\nHer voice is low.", "sad", False),
]


@pytest.mark.parametrize(("case", "text", "thinking", "answer", "is_cut"), ANSWERS)
def test_an_r1_answer_is_recorded_apart_from_its_thinking(
    r1, monkeypatch, case, text, thinking, answer, is_cut
):
    said = [Generated(text, (1, 2), 9)]
    monkeypatch.setattr(ContinuousEngine, "generate", lambda self, prompts, seeds: said)
    (found,) = r1.generate([r1.prepare(FILM, SOUND, None)])
    assert (found.thinking, found.text) == (thinking, answer), case
    assert bool(found.notes) == is_cut


def test_a_dry_run_has_answers_apart_from_their_thinking(r1):
    clips = ("farewell", "late_night", "good_news")
    media = [[SAMPLE / kind / f"{name}.{end}" for kind, end in KINDS] for name in clips]
    said = r1.generate([r1.prepare(*each, None) for each in media])
    assert any(each.thinking and each.text for each in said)
    assert not any("think>" in each.text for each in said)


# -- checkpoints ---------------------------------------------------------------------------------


def test_the_folder_of_another_size_is_refused(r1, large):
    wrong = elsewhere(r1, model=path_of(large, "model"))
    with pytest.raises(CheckpointError, match=r"holds a HumanOmni of 7B, but the baseline is of 0"):
        wrong.load(CPU)
    with pytest.raises(CheckpointError, match=r"baseline\.checkpoint\.model\.path"):
        wrong.prepare(FILM, SOUND, None)


@pytest.mark.parametrize("part", ["siglip", "whisper"])
def test_a_tower_of_another_width_is_refused(r1, tmp_path, part):
    folder = path_of(r1, part)
    content = json.loads((folder / "config.json").read_text())
    sizes = content.get("vision_config", content)
    sizes["hidden_size" if part == "siglip" else "d_model"] = 64
    (tmp_path / "config.json").write_text(json.dumps(content))
    said = rf"32 wide, but the tower given is 64 wide; set baseline\.checkpoint\.{part}\.path"
    with pytest.raises(CheckpointError, match=said):
        elsewhere(r1, **{part: tmp_path}).load(CPU)


def test_a_folder_without_its_towers_names_them(tmp_path):
    configured("r1_omni").miniature(tmp_path / "made")
    (tmp_path / "made" / "R1-Omni-0.5B").rename(tmp_path / "R1-Omni-0.5B")
    adapter = configured(
        "r1_omni",
        f"baseline.checkpoint.model.path={tmp_path / 'R1-Omni-0.5B'}",
        f"weights={tmp_path}",
    )
    with pytest.raises(CheckpointError) as error:
        adapter.load(CPU)
    for part in ("siglip", "whisper", "bert"):
        assert part in str(error.value)
    model = tmp_path / "R1-Omni-0.5B"
    wrong = elsewhere(adapter, siglip=model, whisper=model, bert=model)
    with pytest.raises(CheckpointError, match=r"R1-Omni-0\.5B/config\.json describes no SigLIP"):
        wrong.load(CPU)


def test_copies_of_towers_are_not_read_and_bert_is_the_main_files(r1, tmp_path):
    """Upstream builds the towers from the hub's folders; BERT it overwrites."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in path_of(r1, "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tower = "model.audio_tower.audio_tower.encoder.layer_norm.weight"
    save_file({**tensors, tower: torch.zeros(7)}, file)
    item = r1.prepare(FILM, SOUND, None)
    expected = prompt_of(r1, item)
    other = elsewhere(r1, model=folder)
    other.load(CPU)
    assert torch.equal(prompt_of(other, item), expected)

    name = "model.bert_model.embeddings.word_embeddings.weight"
    save_file({**tensors, name: tensors[name].flip(1).contiguous()}, file)
    other.load(CPU)
    assert not torch.allclose(prompt_of(other, item), expected)


def test_a_head_of_its_own_is_left_aside_where_the_words_are_tied(tmp_path):
    adapter = configured("humanomni").miniature(tmp_path)
    item = adapter.prepare(FILM, SOUND, None)
    adapter.load(CPU)
    expected = adapter.generate([item])
    file = path_of(adapter, "model") / "model.safetensors"
    tensors = load_file(file)
    assert "lm_head.weight" not in tensors
    words = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": words.flip(0).contiguous()}, file)
    adapter.load(CPU)
    assert adapter.generate([item]) == expected


def test_the_checkpoints_own_penalty_on_repetition_applies_and_is_said(tmp_path):
    adapter = configured("r1_omni").miniature(tmp_path)
    file = path_of(adapter, "model") / "generation_config.json"
    content = json.loads(file.read_text())
    item = adapter.prepare(FILM, SOUND, None)
    adapter.load(CPU)
    (plain,) = adapter.generate([item])
    assert not any("repetition" in note for note in adapter.load_notes)

    file.write_text(json.dumps(content | {"repetition_penalty": 1.5}))
    asked = replace(adapter, generation=replace(adapter.generation))
    asked.load(CPU)
    assert asked.generation.repetition_penalty == 1.5
    assert any("repetition_penalty is 1.5" in note for note in asked.load_notes)
    assert asked.generate([item])[0].text != plain.text

    own = replace(adapter, generation=replace(adapter.generation, repetition_penalty=1.1))
    own.load(CPU)
    assert own.generation.repetition_penalty == 1.1
