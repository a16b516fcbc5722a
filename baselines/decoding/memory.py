"""Estimates of the GPU memory that a language model needs: by vLLM, and by a batch of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ovmer.baselines.device import WORKING, free_memory, gib
from ovmer.baselines.errors import PrerequisiteError

LONG_PROMPT = 8192
"""Tokens of a long clip with its answer, for models whose context is far longer."""


def cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of keys and values that a language model keeps of one token.

    An upper bound for models with sliding windows or linear attention in some layers.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * dtype.itemsize)


def batch_tokens(config: Any, dtype: torch.dtype, devices: Sequence[torch.device]) -> int:
    """Tokens, prompts and answers, of a batch that fits the free memory of GPUs; 0: any number.

    Over several GPUs keys and values are shared evenly. A power of two, so that a little more or
    less free memory makes no other batches. A token takes its keys and values, those of two layers
    more while a cache grows by a copy, and during the prefill about six vectors of the hidden size
    and three of the MLP's.
    """
    frees = [free for device in devices if (free := free_memory(device)) is not None]
    if not frees:
        return 0
    free = min(frees)
    text = config.get_text_config()
    cache = cache_bytes(config, dtype) // len(devices)
    wide = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    wide = max(wide) if isinstance(wide, list) else wide  # Gemma 3n has one for each layer
    each = cache + 2 * cache // text.num_hidden_layers
    each += (6 * text.hidden_size + 3 * wide) * dtype.itemsize
    tokens = max(free - WORKING, each) // each
    return int(1 << (int(tokens).bit_length() - 1))


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes."""

    encoders: int
    """Encoders, connector and input embeddings, which stay in torch."""
    llm: int
    cache: int
    """Keys and values of one long clip."""

    @property
    def vllm(self) -> int:
        return self.llm + self.cache + WORKING

    @property
    def torch(self) -> int:
        return self.encoders + WORKING


def needs_of(
    model: nn.Module, folder: Path, context: int, dtype: torch.dtype, gpus: int = 1
) -> MemoryNeeds:
    """Of modules whose language model is in `folder`; `context` tokens at most, 0: not bounded.

    Of each of several GPUs, among which vLLM shares weights, keys and values evenly.
    """
    config: Any = model.llm.config  # type: ignore[union-attr]
    tokens = context or min(config.max_position_embeddings, LONG_PROMPT)
    return MemoryNeeds(
        encoders=sum(value.nbytes for value in model.parameters() if not value.is_meta),
        llm=sum(file.stat().st_size for file in folder.glob("*.safetensors")) // gpus,
        cache=cache_bytes(config, dtype) * tokens // gpus,
    )


def check_memory(needs: MemoryNeeds, total: int, share: float) -> None:
    """Raises PrerequisiteError where a GPU of `total` bytes, `share` of them vLLM's, is too small.

    The sentence names the setting that helps: `engine.memory` where another share would do.
    """
    vllm_has, torch_has = share * total, (1 - share) * total
    if needs.vllm <= vllm_has and needs.torch <= torch_has:
        return
    said = (
        f"the language model takes about {gib(needs.vllm)} (weights {gib(needs.llm)}, one long "
        f"clip {gib(needs.cache)}) and the encoders {gib(needs.torch)}, but of the GPU's "
        f"{gib(total)} engine.memory={share:g} gives them {gib(vllm_has)} and {gib(torch_has)}"
    )
    if needs.vllm + needs.torch <= total:
        least, most = needs.vllm / total, 1 - needs.torch / total
        better = f"engine.memory={(least + most) / 2:.2f}"
        raise PrerequisiteError(f"{said}; set {better}")
    smaller = (
        "machine.dtype=float16, a lower engine.context, engine.gpus=2, or "
        "+engine.options.quantization=fp8"
    )
    raise PrerequisiteError(f"the GPU is too small: {said}; try {smaller}, or a larger GPU")
