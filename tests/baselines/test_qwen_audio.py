"""Qwen-Audio's modules: frames and vectors of a sound, strict loading of the published files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.qwen_audio import (
    QwenAudio,
    QwenAudioInputs,
    _extractor,
    preprocess,
    read_tokenizer,
    slots,
    write_miniature,
)

CPU = Placement(torch.device("cpu"), torch.float32)
GOLDEN = Path(__file__).parents[1] / "golden" / "qwen_audio"


@pytest.fixture
def miniature(tmp_path):
    return write_miniature(tmp_path, seed=0)["model"]


@pytest.fixture
def first_shard(miniature):
    return miniature / "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("samples", "frames", "vectors"),
    [
        (1, 4, 1),  # the least that gives a vector
        (160, 4, 1),
        (16000, 100, 25),
        (16160, 102, 25),  # 101 frames, made even; of 51 after the convolutions one is dropped
        (480000, 3000, 750),
        (528000, 3000, 750),  # 33 seconds
    ],
)
def test_a_sound_has_the_frames_and_vectors_of_its_length(miniature, samples, frames, vectors):
    mel = preprocess(np.full(samples, 0.1, np.float32))
    assert mel.shape == (80, frames)
    assert slots(mel) == vectors + 2
    tower = QwenAudio.load(miniature, CPU).audio
    assert tower(mel).shape == (vectors + 2, 32)


def test_start_and_end_are_the_learnt_vectors(miniature):
    tower = QwenAudio.load(miniature, CPU).audio
    span = tower(preprocess(np.zeros(8000, np.float32)))
    torch.testing.assert_close(span[[0, -1]], tower.audio_bos_eos_token.weight, rtol=0, atol=0)


def test_the_prompt_is_words_sound_words(miniature):
    model = QwenAudio.load(miniature, CPU)
    mel = preprocess(np.zeros(8000, np.float32))
    prompt = model.embed(QwenAudioInputs([1, 2], mel, [3]))
    words = model.llm.get_input_embeddings().weight
    torch.testing.assert_close(prompt[[0, 1, -1]], words[[1, 2, 3]])
    torch.testing.assert_close(prompt[2:-1], model.audio(mel))


def test_the_filters_are_the_published_ones():
    with np.load(GOLDEN / "checkpoint" / "mel_filters.npz", allow_pickle=False) as published:
        np.testing.assert_allclose(_extractor().mel_filters.T, published["mel_80"], atol=1e-8)


def test_weights_become_the_type_asked_for(miniature):
    model = QwenAudio.load(miniature, Placement(torch.device("cpu"), torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.embed(QwenAudioInputs([1], torch.zeros(80, 8), [1])).dtype == torch.bfloat16


def test_computed_keys_of_old_files_are_ignored(miniature, first_shard):
    tensors = load_file(first_shard)
    tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["transformer.rotary_emb.inv_freq"] = torch.ones(8)
    tensors["transformer.h.0.attn.logn_tensor"] = torch.ones(1, 4, 1, 1)
    save_file(tensors, first_shard)
    QwenAudio.load(miniature, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("lm_head.weight"), "needs llm.lm_head.weight"),
        (lambda t: t.pop(next(k for k in t if "c_attn" in k)), "needs llm.*self_attn.k_proj"),
        (lambda t: t.update(visual=torch.ones(1)), "no place for .*visual"),
        (lambda t: t.update({"lm_head.weight": torch.ones(2, 2)}), r"has shape \[2, 2\]"),
    ],
)
def test_files_that_do_not_fit_are_named(miniature, change, message):
    shards = sorted(miniature.glob("*.safetensors"))
    held = [load_file(shard) for shard in shards]
    with_head = next(i for i, tensors in enumerate(held) if "lm_head.weight" in tensors)
    change(held[with_head])
    save_file(held[with_head], shards[with_head])
    with pytest.raises(CheckpointError, match=message):
        QwenAudio.load(miniature, CPU)


def test_the_base_language_model_is_no_qwen_audio(miniature):
    config = json.loads((miniature / "config.json").read_text())
    del config["audio"]
    (miniature / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"no audio tower .*n_mels.*right folder"):
        QwenAudio.load(miniature, CPU)


def test_ranks_that_lost_their_end_are_noticed(miniature):
    file = miniature / "qwen.tiktoken"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(CheckpointError, match=r"qwen\.tiktoken puts <audio> at"):
        read_tokenizer(miniature)
