"""MiniCPM-V 4.6 in vLLM, asked about video alone.

vLLM 0.32 leaves the vision tower of this model out where no images are to be given.
"""

from contextlib import AbstractContextManager
from typing import Any

from vllm.model_executor.models import minicpmv4_6 as original
from vllm.multimodal import MULTIMODAL_REGISTRY


@MULTIMODAL_REGISTRY.register_processor(
    original.MiniCPMV4_6MultiModalProcessor,
    info=original.MiniCPMV4_6ProcessingInfo,
    dummy_inputs=original.MiniCPMVDummyInputsBuilder,
)
class MiniCpm(original.MiniCPMV4_6ForConditionalGeneration):
    """vLLM's class with the tower for video too."""

    def _mark_tower_model(self, vllm_config: Any, modalities: Any) -> AbstractContextManager[None]:
        return super()._mark_tower_model(vllm_config, {*modalities, "video"})
