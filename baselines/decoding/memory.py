"""What a baseline needs of a GPU's memory when vLLM has the language model: an estimate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ovmer.baselines.device import WORKING, gib
from ovmer.baselines.errors import PrerequisiteError


@dataclass(frozen=True)
class Needs:
    """Bytes."""

    encoders: int
    """Encoders, connector and input embeddings, which stay in torch."""
    llm: int
    cache: int
    """Keys and values of one clip of the longest kind."""

    @property
    def vllm(self) -> int:
        return self.llm + self.cache + WORKING

    @property
    def torch(self) -> int:
        return self.encoders + WORKING


def needs_of(model: nn.Module, folder: Path, context: int, dtype: torch.dtype) -> Needs:
    """Of modules whose language model is in `folder`; `context` tokens at most, 0: all it has."""
    config: Any = model.llm.config  # type: ignore[union-attr]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    tokens = context or config.max_position_embeddings
    return Needs(
        encoders=sum(value.nbytes for value in model.parameters() if not value.is_meta),
        llm=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        cache=2 * config.num_hidden_layers * heads * width * tokens * dtype.itemsize,
    )


def check_memory(needs: Needs, total: int, share: float) -> None:
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
    smaller = "machine.dtype=float16, a lower engine.context, or +engine.options.quantization=fp8"
    raise PrerequisiteError(f"the GPU is too small: {said}; try {smaller}, or a larger GPU")
