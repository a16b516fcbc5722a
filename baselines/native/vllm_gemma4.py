"""Gemma 4 in vLLM, able to hear a single clip on a CPU.

There vLLM 0.32 multiplies matrices by a kernel that wants a row's numbers next to each other, which
they are not after the convolution of Gemma's sound encoder (of a batch they are, by a copy).
"""

from typing import Any

from vllm.model_executor.models import gemma4_mm as original
from vllm.multimodal import MULTIMODAL_REGISTRY


@MULTIMODAL_REGISTRY.register_processor(
    original.Gemma4MultiModalProcessor,
    info=original.Gemma4ProcessingInfo,
    dummy_inputs=original.Gemma4DummyInputsBuilder,
)
class Gemma4(original.Gemma4ForConditionalGeneration):
    """vLLM's class with such a copy in any case."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in [] if self.audio_tower is None else self.audio_tower.layers:
            layer.lconv1d.linear_end.register_forward_pre_hook(
                lambda module, given: (given[0].contiguous(),)
            )
