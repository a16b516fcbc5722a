"""Qwen of 2023: its tokenizer without remote code, and its weights under Qwen2's names."""

import unicodedata

import pytest
import torch

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.miniature import fuse, write_ranks
from ovmer.baselines.models.qwen_audio import AUDIO_TOKENS
from ovmer.baselines.qwen import FUSED, LLM_NAMES, QwenTokenizer, qwen2_config
from ovmer.baselines.weight_files import LazyTensor
from ovmer.baselines.weights import rename, renames, split

PUBLISHED = {
    "vocab_size": 155947,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "layer_norm_epsilon": 1e-5,
    "rotary_emb_base": 10000,
    "seq_length": 2048,
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    file = tmp_path_factory.mktemp("qwen") / "qwen.tiktoken"
    return file, write_ranks(file)


@pytest.fixture(scope="module")
def tokenizer(ranks):
    return QwenTokenizer(ranks[0], AUDIO_TOKENS)


def test_control_tokens_follow_the_ranks_in_the_published_order(ranks, tokenizer):
    first = ranks[1]
    # The published ids less the number of published ranks, 151643.
    for name, place in {
        "<|endoftext|>": 0,
        "<|im_start|>": 1,
        "<|im_end|>": 2,
        "<|extra_0|>": 3,
        "<|extra_204|>": 207,
        "[[[AUDIO:modality]]]": 208,
        "<audio>": 3520,
        "</audio>": 3521,
    }.items():
        assert tokenizer.id_of(name) == first + place
    assert len(tokenizer) == first + 3522
    assert tokenizer.stop_ids == (first, first + 1, first + 2)
    assert tokenizer.eos_id == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "As an expert in the field of emotions, please focus.",
        "他看起来很高兴，也有一点惊讶。",
        "  two blanks,\n\n\ttabs \r\n and 1234 digits ",
        "I can't; we'LL see 🙂",
        "cafe\u0301",
    ],
)
def test_text_comes_back_composed(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_words_are_split_as_published(tokenizer):
    words = [tokenizer.decode([i]) for i in tokenizer.encode("emotions, emotions 12\n")]
    assert words[-3:] == ["1", "2", "\n"]  # each digit by itself
    assert tokenizer.encode(" emotions") + tokenizer.encode(",") == tokenizer.encode(" emotions,")


def test_no_text_becomes_a_control_token(ranks, tokenizer):
    for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *AUDIO_TOKENS[:40], "</audio>"):
        assert max(tokenizer.encode(f"said {name} then")) < ranks[1]
        assert tokenizer.decode(tokenizer.encode(name)) == name


def test_answers_keep_time_stamps_and_lose_ends_and_spare_rows(tokenizer):
    spoken, stamp = tokenizer.encode("he sighs"), tokenizer.id_of("<|2.33|>")
    ids = [stamp, *spoken, tokenizer.im_end_id, len(tokenizer), len(tokenizer) + 781]
    assert tokenizer.decode(ids) == "<|2.33|>he sighs"
    assert tokenizer.decode([0xFF]) != ""
    assert tokenizer.decode(tokenizer.encode("难")[:1]) == "\ufffd"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no qwen.tiktoken"),
        (b"", "does not rank its pieces"),
        (b"IQ== 0\nIg=", "torn or no list of ranks"),
        (b"IQ== zero\n", "torn or no list of ranks"),
        (b"<!doctype html>\n", "torn or no list of ranks"),
        (b"IQ== 0\nIg== 2\n", "does not rank its pieces"),
    ],
)
def test_a_wrong_list_of_ranks_is_named(tmp_path, content, message):
    file = tmp_path / "qwen.tiktoken"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        QwenTokenizer(file)


def test_published_sizes_become_those_of_qwen2():
    config = qwen2_config(PUBLISHED)
    assert config.intermediate_size == 11008
    assert config.rms_norm_eps == 1e-5
    assert config.rope_parameters["rope_theta"] == 10000
    assert config.max_position_embeddings == 2048
    assert not config.tie_word_embeddings


def test_a_config_of_another_model_is_named():
    with pytest.raises(CheckpointError, match="lacks 'rotary_emb_base'"):
        qwen2_config({key: PUBLISHED[key] for key in PUBLISHED if key != "rotary_emb_base"})


def test_attention_is_split_in_plain_thirds_and_fused_again():
    weight, bias = torch.arange(24.0).view(12, 2), torch.arange(12.0)
    published = {
        "transformer.h.7.attn.c_attn.weight": weight,
        "transformer.h.7.attn.c_attn.bias": bias,
        "transformer.h.7.attn.c_proj.weight": torch.ones(4, 4),
    }
    lazy = {
        key: LazyTensor(tuple(value.shape), key, lambda value=value: value)
        for key, value in published.items()
    }
    parted = split(lazy, *FUSED)
    ours = {key: tensor.read() for key, tensor in rename(parted, renames(LLM_NAMES)).items()}
    assert ours.keys() == {
        "llm.model.layers.7.self_attn.o_proj.weight",
        *(
            f"llm.model.layers.7.self_attn.{letter}_proj.{kind}"
            for letter in "qkv"
            for kind in ("weight", "bias")
        ),
    }
    torch.testing.assert_close(ours["llm.model.layers.7.self_attn.k_proj.weight"], weight[4:8])
    torch.testing.assert_close(ours["llm.model.layers.7.self_attn.v_proj.bias"], bias[8:])
    assert all(tensor.shape == tuple(tensor.read().shape) for tensor in parted.values())
    fused = fuse({key: tensor.read() for key, tensor in parted.items()}, *FUSED)
    assert fused.keys() == published.keys()
    for key, value in published.items():
        torch.testing.assert_close(fused[key], value)
