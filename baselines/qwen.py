"""Qwen of 2023 (Bai et al., arXiv 2309.16609) on transformers' Qwen2 classes, and its tokenizer.

Up to `seq_length` tokens (config.json: 2048) both compute the same function, bit for bit in
float32. Beyond it Qwen stretches its rotary base with the length of the prompt (dynamic NTK) and
scales queries with the logarithm of their position; Qwen2 does neither. Prompt and answer together
must therefore stay within it.

Source: QwenLM/Qwen-Audio at b50fb95, `modeling_qwen.py` and `tokenization_qwen.py`.
"""

import base64
import binascii
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiktoken
from transformers import Qwen2Config

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.tokenizer import QWEN_WORDS
from ovmer.baselines.weights import Renames

IGNORED: Renames = ((r"(attn\.masked_bias|logn_tensor|rotary_emb\.inv_freq)$", None),)
"""Computed, not learnt; older files hold them."""

FUSED = ("c_attn", "qkv")
"""The fused attention projection, and the names of its parts here."""

LLM_NAMES = (
    ("lm_head", "llm.lm_head"),
    ("transformer.wte", "llm.model.embed_tokens"),
    ("transformer.ln_f", "llm.model.norm"),
    ("transformer.h.*.ln_1", "llm.model.layers.*.input_layernorm"),
    ("transformer.h.*.ln_2", "llm.model.layers.*.post_attention_layernorm"),
    ("transformer.h.*.attn.c_proj", "llm.model.layers.*.self_attn.o_proj"),
    ("transformer.h.*.mlp.w1", "llm.model.layers.*.mlp.up_proj"),
    ("transformer.h.*.mlp.w2", "llm.model.layers.*.mlp.gate_proj"),
    ("transformer.h.*.mlp.c_proj", "llm.model.layers.*.mlp.down_proj"),
    # `c_attn` split in three
    ("transformer.h.*.attn.q", "llm.model.layers.*.self_attn.q_proj"),
    ("transformer.h.*.attn.k", "llm.model.layers.*.self_attn.k_proj"),
    ("transformer.h.*.attn.v", "llm.model.layers.*.self_attn.v_proj"),
)
"""Published module names and those of a Qwen2ForCausalLM called `llm`; `*` is a layer's number."""


def qwen2_config(published: Mapping[str, Any]) -> Qwen2Config:
    """The Qwen2 configuration that computes what a Qwen config.json describes.

    Its `max_position_embeddings` is the length up to which it does, answer included.
    Raises CheckpointError for a configuration of something else.
    """
    try:
        return Qwen2Config(
            vocab_size=published["vocab_size"],
            hidden_size=published["hidden_size"],
            # The published number counts the halves for w1 and w2 together.
            intermediate_size=published["intermediate_size"] // 2,
            num_hidden_layers=published["num_hidden_layers"],
            num_attention_heads=published["num_attention_heads"],
            num_key_value_heads=published["num_attention_heads"],
            rms_norm_eps=published["layer_norm_epsilon"],
            rope_parameters={"rope_type": "default", "rope_theta": published["rotary_emb_base"]},
            max_position_embeddings=published["seq_length"],
            tie_word_embeddings=False,
        )
    except KeyError as error:
        raise CheckpointError(
            f"config.json lacks {error}, which a Qwen of 2023 has; is it the right folder?"
        ) from None


_CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_EXTRA = tuple(f"<|extra_{i}|>" for i in range(205))


class QwenTokenizer:
    """Byte pairs, as the published `qwen.tiktoken` ranks them; made without the hub's own code.

    Control tokens take the ids after the ranks: ChatML's three, 205 spare ones, then `more`, those
    of the model at hand. Text is normalised to NFC, as upstream does.
    """

    def __init__(self, file: Path, more: Sequence[str] = ()) -> None:
        ranks = _read_ranks(file)
        control = {
            name: number for number, name in enumerate((*_CHAT, *_EXTRA, *more), start=len(ranks))
        }
        self._pieces = tiktoken.Encoding(
            "qwen", pat_str=QWEN_WORDS, mergeable_ranks=ranks, special_tokens=control
        )
        self._control = control
        self.eos_id, self.im_start_id, self.im_end_id = (control[name] for name in _CHAT)
        self.stop_ids: tuple[int, ...] = (self.eos_id, self.im_start_id, self.im_end_id)
        self.bos_id = self.im_start_id  # what every prompt starts with; there is no other

    def __len__(self) -> int:
        return self._pieces.n_vocab

    def id_of(self, control_token: str) -> int:
        """The id of a control token by its name."""
        return self._control[control_token]

    def encode(self, text: str) -> list[int]:
        """The ids of plain text; a control token that it spells becomes ordinary pieces."""
        return self._pieces.encode_ordinary(unicodedata.normalize("NFC", text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; ChatML's tokens and ids beyond the vocabulary are left out.

        Other control tokens, such as time stamps, are kept as the text of their names.
        """
        known = [i for i in ids if 0 <= i < len(self) and i not in self.stop_ids]
        return self._pieces.decode(known, errors="replace")


def _read_ranks(file: Path) -> dict[bytes, int]:
    """Lines of "base64 rank". The ranks must count up from 0, so that control ids can follow."""
    try:
        lines = (line.split() for line in file.read_bytes().splitlines() if line)
        ranks = {base64.b64decode(piece, validate=True): int(rank) for piece, rank in lines}
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent} has no {file.name}; is it the right folder?"
        ) from None
    except (ValueError, binascii.Error) as error:
        raise CheckpointError(f"{file} is torn or no list of ranks; fetch it again") from error
    if list(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
        raise CheckpointError(f"{file} does not rank its pieces 0, 1, 2, ...; fetch it again")
    return ranks
