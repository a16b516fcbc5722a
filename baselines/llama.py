"""LLaMA, Vicuna and Llama 2 as language models of baselines.

Nearly all are published in transformers' layout. In Meta's own (`consolidated.00.pth`) the modules
have other names, and the rows of queries and keys another order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.miniature import write_json, write_sentencepiece, write_torch_shards
from ovmer.baselines.weight_files import LazyTensor, Tensors, read_tensors
from ovmer.baselines.weights import rename

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_OPTIONAL = (
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
)

LLAMA_KEYS = ((r"rotary_emb\.inv_freq$", None), (r"^", "llm."))
"""The renames of a checkpoint that holds nothing but a language model, the module `llm`."""

MINI_LLAMA1: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
"""The config.json of a miniature, with the context and the epsilon of the first LLaMA."""
MINI_LLAMA2 = {**MINI_LLAMA1, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}

META_NAMES = (
    ("tok_embeddings", "model.embed_tokens"),
    ("norm", "model.norm"),
    ("output", "lm_head"),
    ("layers.*.attention_norm", "model.layers.*.input_layernorm"),
    ("layers.*.attention.wq", "model.layers.*.self_attn.q_proj"),
    ("layers.*.attention.wk", "model.layers.*.self_attn.k_proj"),
    ("layers.*.attention.wv", "model.layers.*.self_attn.v_proj"),
    ("layers.*.attention.wo", "model.layers.*.self_attn.o_proj"),
    ("layers.*.ffn_norm", "model.layers.*.post_attention_layernorm"),
    ("layers.*.feed_forward.w1", "model.layers.*.mlp.gate_proj"),
    ("layers.*.feed_forward.w2", "model.layers.*.mlp.down_proj"),
    ("layers.*.feed_forward.w3", "model.layers.*.mlp.up_proj"),
)
"""Module names in Meta's layout and in transformers'; `*` is a layer's number."""
_ROTATED = (".self_attn.q_proj.weight", ".self_attn.k_proj.weight")


def llama_config(published: Mapping[str, Any]) -> LlamaConfig:
    """The language model's part of a config.json, whatever `model_type` that file claims.

    Multimodal checkpoints of the LLaVA line keep LLaMA's fields at the top level, beside their own.
    A null value counts as missing. What a configuration of transformers' own class
    (`model_type` llama) leaves out is that class's default, since it writes only what differs.
    Raises CheckpointError where one of the sizes is missing.
    """
    nested = published.get("text_config")
    if isinstance(nested, Mapping) and published.get("hidden_size") is None:
        return llama_config(nested)
    known = {key: value for key, value in published.items() if value is not None}
    lost = [field for field in _REQUIRED if field not in known]
    if lost and known.get("model_type") != "llama":
        raise CheckpointError(f"the language model's config.json lacks {', '.join(lost)}")
    fields = {key: known[key] for key in (*_REQUIRED, *_OPTIONAL) if key in known}
    return LlamaConfig(**fields, rope_parameters=rope_parameters(known))


def rope_parameters(published: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary parameters of a config.json, in the form of transformers 5.

    Older files have `rope_theta` at the top level, and `type` names the kind of `rope_scaling`.
    Raises CheckpointError for a kind that transformers does not know.
    """
    rope = dict(published.get("rope_parameters") or published.get("rope_scaling") or {})
    legacy = rope.pop("type", None)
    kind = rope.setdefault("rope_type", legacy or "default")
    if rope.get("rope_theta") is None:
        rope["rope_theta"] = published.get("rope_theta") or 10000.0
    if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
        raise CheckpointError(
            f"config.json says rope_scaling {kind!r}, which transformers does not know; it has "
            f"{', '.join(ROPE_INIT_FUNCTIONS)}"
        )
    return rope


def read_llama(folder: Path) -> tuple[LlamaConfig, Tensors]:
    """The language model of a folder in transformers' layout, as the module `llm`.

    Raises CheckpointError.
    """
    config = llama_config(read_json(folder))
    tensors = rename(read_tensors(folder), LLAMA_KEYS)
    tables = [tensors.get(f"llm.{name}.weight") for name in ("model.embed_tokens", "lm_head")]
    config.vocab_size = count_words(config.vocab_size, tables)
    return config, tensors


def write_llama_miniature(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a small tokenizer.model, config.json and `tensors` as a language model's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(folder / "tokenizer.model", config["vocab_size"])
    write_json(folder / "config.json", config)
    write_torch_shards(folder, tensors, shards=2)


def count_words(stated: int, tables: Sequence[LazyTensor | None]) -> int:
    """The size of a vocabulary: the rows of its tables where these agree, else what is stated.

    A delta merged by hand often keeps the config.json of the model that it was added to. A note on
    the first table's file says so.
    """
    there = [table for table in tables if table is not None and table.shape]
    counts = {table.shape[0] for table in there}
    if len(there) < len(tables) or len(counts) != 1 or counts == {stated}:
        return stated
    (rows,) = counts
    if there[0].origin is not None:
        there[0].origin.notes.append(
            f"{rows} words where config.json says {stated}; the rows count"
        )
    return rows


def meta_config(params: Mapping[str, Any], tensors: Tensors, llm: str, context: int) -> LlamaConfig:
    """Configuration of the language model `llm` from params.json and the shapes of renamed tensors.

    Raises CheckpointError where something is missing.
    """
    words, wide = f"{llm}.model.embed_tokens.weight", f"{llm}.model.layers.0.mlp.up_proj.weight"
    if lost := [name for name in (words, wide) if name not in tensors]:
        raise CheckpointError(f"the checkpoint has no {lost[0]}; is it LLaMA's in Meta's layout?")
    if lost := [name for name in ("n_heads", "n_layers", "norm_eps") if name not in params]:
        raise CheckpointError(f"params.json lacks {', '.join(lost)}; fetch it again")
    vocabulary, width = tensors[words].sides(2)
    return llama_config(
        {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": tensors[wide].sides(2)[0],
            "num_hidden_layers": params["n_layers"],
            "num_attention_heads": params["n_heads"],
            "max_position_embeddings": context,
            "rms_norm_eps": params["norm_eps"],
        }
    )


def from_meta(tensors: Tensors, heads: int) -> Tensors:
    """Renamed tensors of Meta's layout with queries and keys as transformers turns them.

    Of each head, Meta turns row 2i together with 2i + 1, transformers i with i + half.
    """
    return {
        name: replace(tensor, read=partial(_in_halves, tensor, heads))
        if name.endswith(_ROTATED)
        else tensor
        for name, tensor in tensors.items()
    }


def to_meta(tensors: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """The inverse of `from_meta`, for writing a checkpoint."""
    return {
        name: tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        if name.endswith(_ROTATED)
        else tensor
        for name, tensor in tensors.items()
    }


def _in_halves(tensor: LazyTensor, heads: int) -> Tensor:
    return tensor.read().unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
