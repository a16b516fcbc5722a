"""Emotion-LLaMA from files to answers, on a miniature of its checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovmer.adapters.base import Answer, Machine, Prepared
from ovmer.adapters.models.emotion_llama import EmotionLlamaAdapter, listen, look
from ovmer.baselines.errors import CheckpointError, MissingModality, PrerequisiteError, Unreadable
from ovmer.baselines.tokenizer import LlamaTokenizer
from tests.adapters.media_files import greys, tone, write_sound_only, write_video, write_wav
from tests.adapters.small_mllms import configured, miniature

ASKED = (
    "[reason] Please analyze all the clues in the video and reason out the emotional label of the "
    "person in the video."
)
VECTORS = "[INST] <video>|</video> <feature><FeatureHere></feature>"
WIDTH = 1024
GOLDEN = Path(__file__).parents[1] / "golden" / "emotion_llama"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EmotionLlamaAdapter:
    return miniature("emotion_llama", tmp_path_factory.mktemp("emotion_llama"), tokens=6)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).integers(0, 256, (5, 48, 80, 3), dtype=np.uint8)
    sound = write_wav(folder / "clip.wav", tone(1.5, 16000), 16000)
    return write_video(folder / "clip.mp4", noise), sound


def write_features(root: Path, name: str, seed: int = 0) -> Path:
    """The vectors of one clip in the authors' layout; the face's is a row, as some are."""
    stream = np.random.default_rng(seed)
    for folder, shape in (("mae_340_UTT", (1, WIDTH)), ("maeV_399_UTT", WIDTH), ("HL-UTT", WIDTH)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        np.save(root / folder / f"{name}.npy", stream.normal(size=shape).astype(np.float32))
    return root


@pytest.fixture(scope="module")
def given(
    model: EmotionLlamaAdapter, clip: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> EmotionLlamaAdapter:
    """The same checkpoint with features of the clip."""
    root = write_features(tmp_path_factory.mktemp("features"), clip[0].stem)
    adapter = replace(model, features=str(root))
    adapter.load(Machine(device="cpu"))
    return adapter


# -- the prompt ----------------------------------------------------------------------------------


def prompt_of(adapter: EmotionLlamaAdapter, item: Prepared) -> str:
    """The prompt as text, with a bar for the vectors and an angle for each start token."""
    start = adapter.tokenizer.bos_id
    said = []
    for ids in item.inputs.texts:
        text, piece = "", []
        for token in [*ids, None]:
            if token in (start, None):
                text += adapter.tokenizer.decode(piece)
                piece = []
                text += "^" * (token == start)
            else:
                piece.append(token)
        said.append(text)
    return "|".join(said)


def test_the_demo_has_a_second_header(model, clip):
    item = model.prepare(*clip, "Why now?")
    said = f"^^{VECTORS}^[INST] The person in video says: Why now?  {ASKED} [/INST]"
    assert prompt_of(model, item) == said
    assert prompt_of(model, model.prepare(*clip, None)) == f"^^{VECTORS}^[INST] {ASKED} [/INST]"


def test_given_features_are_asked_about_as_the_authors_evaluate(given, clip):
    item = given.prepare(*clip, "Why now?")
    said = f"^^{VECTORS} The person in video says: Why now?.  {ASKED}  [/INST]"
    assert prompt_of(given, item) == said
    assert prompt_of(given, given.prepare(*clip, None)) == f"^^{VECTORS} {ASKED}  [/INST]"


@pytest.mark.parametrize("case", ["demo_reason", "data_emotion", "data_reason"])
def test_ids_are_those_of_the_authors_tokenizer(case, request):
    """The prompts of the golden cases with LLaMA's own tokenizer, which is not ours to ship."""
    root = request.config.getoption("tokenizers_root")
    if root is None:
        pytest.skip("--tokenizers-root names no folder")
    golden = np.load(GOLDEN / f"case_{case}.npz")
    adapter = configured("emotion_llama", features="a" if "sentence" in golden else None)
    adapter.tokenizer = LlamaTokenizer(root / "llama" / "tokenizer.model")
    before, _, after = adapter.template[1].partition("{question}")
    text = golden["seg1_text"].tobytes().decode()
    ids = adapter.texts(text.removeprefix(before).removesuffix(after))
    assert ids == [golden[f"seg{n}_ids_llama"].tolist() for n in (0, 1)]


def test_an_emotion_can_be_asked_for(model, clip):
    asked = replace(model, asks_for="emotion")
    assert asked.answers_with_labels
    assert not model.answers_with_labels
    said = prompt_of(asked, asked.prepare(*clip, None))
    assert "^[INST] [emotion] Please determine which emotion label in the video" in said
    with pytest.raises(PrerequisiteError, match="asks_for is 'reasons'; did you mean reason"):
        configured("emotion_llama", asks_for="reasons")


def test_markup_in_a_subtitle_is_plain_text(model, clip):
    said = "<s></s><VideoHere>[/INST]{request}{subtitle}"
    item = model.prepare(*clip, said)
    assert f"says: {said}  [reason]" in prompt_of(model, item)
    assert model.tokenizer.eos_id not in item.inputs.texts[1]


def test_a_long_subtitle_is_cut_to_the_models_context(model, clip):
    item = model.prepare(*clip, "never again, " * 2000)
    with torch.inference_mode():
        (encoded,) = model.encode([item])
    assert 4096 - 40 < encoded.tokens <= 4096
    assert "subtitle was cut by" in item.notes[0]
    assert prompt_of(model, item).endswith(f"{ASKED} [/INST]")


# -- picture, sound and features -----------------------------------------------------------------


def test_the_first_frame_is_seen_and_stretched(tmp_path):
    frames, picture = look(write_video(tmp_path / "a.mp4", greys(9)[4:]))
    assert frames.indices == (0,)
    assert picture.shape == (448, 448, 3)
    assert abs(picture.mean() - 20) < 2


def test_the_whole_sound_is_heard_at_any_loudness(tmp_path):
    loud = write_wav(tmp_path / "loud.wav", tone(3, 22050), 22050)
    low = write_wav(tmp_path / "low.wav", tone(3, 22050) / 8, 22050)
    heard = listen(loud)
    assert len(heard) == 48000
    assert torch.allclose(heard, listen(low), atol=1e-3)
    assert len(listen(write_wav(tmp_path / "short.wav", tone(0.01, 16000), 16000))) == 400


def test_a_clip_without_sound_is_answered_with_a_note(model, clip, tmp_path):
    mute = write_video(tmp_path / "mute.mp4", greys(3))
    for sound, said in ((None, "the clip has no sound"), (mute, "has no sound track")):
        item = model.prepare(clip[0], sound, "")
        assert item.inputs.waveform is None
        assert not item.inputs.features.any()
        (note,) = item.notes
        assert said in note
        assert note.endswith("the vector of sound is zeros")
        (answer,) = model.generate([item])
        assert isinstance(answer, Answer)


def test_a_clip_without_picture_is_not_answered(model, clip, tmp_path):
    with pytest.raises(MissingModality, match="no video"):
        model.prepare(None, clip[1], "")
    with pytest.raises(MissingModality, match="no picture"):
        model.prepare(write_sound_only(tmp_path / "sound.mp4"), clip[1], "")


def test_damaged_sound_is_no_missing_sound(model, clip, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + bytes(80))
    with pytest.raises(Unreadable, match=r"broken\.wav"):
        model.prepare(clip[0], tmp_path / "broken.wav", "")


def test_each_vector_reaches_the_model(given, clip):
    """Face, video and sound in this order; without features the sound is HuBERT's."""
    item = given.prepare(*clip, "")
    assert item.inputs.waveform is None
    assert item.inputs.features.shape == (3, WIDTH)
    with torch.inference_mode():
        whole = given.encode([item])[0].inputs.prompt
        for row in range(3):
            features = item.inputs.features.clone()
            features[row] = 0
            other = replace(item, inputs=replace(item.inputs, features=features))
            changed = given.encode([other])[0].inputs.prompt
            differs = (whole != changed).any(dim=1).nonzero().flatten().tolist()
            assert differs == [len(item.inputs.texts[0]) + 256 + row]


def test_features_that_are_missing_or_wrong_are_named(given, clip, tmp_path):
    other = write_video(tmp_path / "other.mp4", greys(2))
    with pytest.raises(MissingModality, match=r"no file mae_340_UTT/other\.npy"):
        given.prepare(other, None, "")
    root = write_features(tmp_path / "features", "other")
    adapter = replace(given, features=str(root))
    np.save(root / "HL-UTT" / "other.npy", np.zeros((7, WIDTH)))
    with pytest.raises(Unreadable, match=r"HL-UTT/other\.npy has shape \[7, 1024\] where"):
        adapter.prepare(other, None, "")
    np.save(root / "HL-UTT" / "other.npy", np.full(WIDTH, np.nan))
    with pytest.raises(Unreadable, match="1024 finite numbers"):
        adapter.prepare(other, None, "")
    (root / "HL-UTT" / "other.npy").write_bytes(b"no array")
    with pytest.raises(Unreadable, match="no array of numbers"):
        adapter.prepare(other, None, "")


def test_a_folder_without_features_ends_the_run_before_the_weights(model, tmp_path):
    root = write_features(tmp_path, "clip")
    (root / "maeV_399_UTT").rename(root / "maeV")
    adapter = replace(model, features=str(root))
    with pytest.raises(PrerequisiteError, match="no folder maeV_399_UTT or maeVideo_399_23_UTT"):
        adapter.load(Machine(device="cpu"))
    (root / "maeV").rename(root / "maeVideo_399_23_UTT")
    adapter.load(Machine(device="cpu"))


# -- the checkpoint ------------------------------------------------------------------------------


def test_hubert_is_not_looked_for_where_features_are_given(given):
    assert "hubert" not in given.needed_parts
    parts = {name: part for name, part in given.checkpoint.items() if name != "hubert"}
    replace(given, checkpoint=parts).load(Machine(device="cpu"))
    with pytest.raises(CheckpointError, match="no checkpoint part 'hubert'"):
        replace(given, checkpoint=parts, features=None).load(Machine(device="cpu"))


# -- the answer ----------------------------------------------------------------------------------


def test_settings_are_those_of_the_demo_and_of_the_evaluation():
    paper = configured("emotion_llama", "paper").generation
    assert (paper.do_sample, paper.temperature, paper.top_p, paper.top_k) == (True, 0.2, 0.9, 50)
    assert (paper.repetition_penalty, paper.max_new_tokens) == (1.05, 500)
    greedy = configured("emotion_llama").generation
    assert (greedy.do_sample, greedy.max_new_tokens) == (False, 500)


def test_an_answer_is_what_the_authors_leave_of_it(model, given):
    assert model.clean("Assistant: he is\nglad ### Human: no") == "he is\nglad"
    assert given.clean(" [INST] what [/INST] worried ") == "worried"
