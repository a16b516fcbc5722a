"""The Gemmas in vLLM, where vLLM 0.32 is mistaken.

Gemma 3n has tokens of its own at the ends of pictures and sound, in the tables of these: vLLM looks
them up in the text's. Gemma 4 cannot process sound on a CPU: there vLLM multiplies
matrices by a kernel that wants a row's numbers next to each other, which they are not after the
convolution of the sound encoder (of a batch they are, by a copy).
"""

from typing import Any

import torch
from vllm.model_executor.models import gemma3n_mm, gemma4_mm
from vllm.multimodal import MULTIMODAL_REGISTRY


@MULTIMODAL_REGISTRY.register_processor(
    gemma3n_mm.Gemma3nMultiModalProcessor,
    info=gemma3n_mm.Gemma3nProcessingInfo,
    dummy_inputs=gemma3n_mm.Gemma3nDummyInputsBuilder,
)
class Gemma3n(gemma3n_mm.Gemma3nForConditionalGeneration):
    """vLLM's class with each token in its table."""

    def embed_input_ids(
        self,
        input_ids: torch.Tensor,
        multimodal_embeddings: Any = None,
        *,
        is_multimodal: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token ids -> tokens x width."""
        vectors = super().embed_input_ids(
            input_ids, multimodal_embeddings, is_multimodal=is_multimodal
        )
        for table in (self.embed_vision, self.embed_audio):
            end = table.vocab_offset + table.vocab_size
            own = (input_ids >= table.vocab_offset) & (input_ids < end)
            if is_multimodal is not None:
                own &= ~is_multimodal.to(own.device)
            if own.any():
                vectors[own] = table(input_ids=input_ids[own]).to(vectors.dtype)
        return vectors


@MULTIMODAL_REGISTRY.register_processor(
    gemma4_mm.Gemma4MultiModalProcessor,
    info=gemma4_mm.Gemma4ProcessingInfo,
    dummy_inputs=gemma4_mm.Gemma4DummyInputsBuilder,
)
class Gemma4(gemma4_mm.Gemma4ForConditionalGeneration):
    """vLLM's class with such a copy in any case."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in [] if self.audio_tower is None else self.audio_tower.layers:
            layer.lconv1d.linear_end.register_forward_pre_hook(
                lambda module, given: (given[0].contiguous(),)
            )
