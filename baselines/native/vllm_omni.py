"""Qwen2.5-Omni's thinker in vLLM, with the sound where the model was taught to expect it.

vLLM 0.32 has sound woven into a video (`use_audio_in_video`) wrong in two ways: it lays the frames
out as if they were a second apart, whatever their distance in time; and from there on the tokens'
places in time and picture are those of their neighbours. Here both are as transformers has them.
The class goes by a name of its own, so that vLLM's is left as it is for everybody else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Reference
from vllm.model_executor.models import qwen2_5_omni_thinker as original
from vllm.multimodal import MULTIMODAL_REGISTRY


class Processor(original.Qwen2_5OmniThinkerMultiModalProcessor):
    """Weaves by the distance in time that the checkpoint's processor tells."""

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        seconds = out_mm_kwargs.get_data().get("second_per_grid_ts")
        if seconds is not None:
            told = {"second_per_grid_ts": torch.as_tensor(seconds).tolist()}
            hf_processor_mm_kwargs = {**hf_processor_mm_kwargs, **told}
        return super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)


@MULTIMODAL_REGISTRY.register_processor(
    Processor,
    info=original.Qwen2_5OmniThinkerProcessingInfo,
    dummy_inputs=original.Qwen2_5OmniThinkerDummyInputsBuilder,
)
class Thinker(original.Qwen2_5OmniThinkerForConditionalGeneration):
    """vLLM's modules with transformers' places."""

    get_rope_index = Reference.get_rope_index
    get_llm_pos_ids_for_vision = Reference.get_llm_pos_ids_for_vision
    get_chunked_index = Reference.get_chunked_index

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[Any]
    ) -> tuple[torch.Tensor, int]:
        """The places (3 x tokens: time, height, width), and how far they run past the tokens."""

        def all_of(name: str) -> torch.Tensor | None:
            found = [each.data[name].data for each in mm_features if name in each.data]
            return torch.stack([each.squeeze() for each in found]) if found else None

        woven = all_of("use_audio_in_video")
        if woven is None or not woven.any():
            return super().get_mrope_input_positions(input_tokens, mm_features)
        self.spatial_merge_size = self.config.vision_config.spatial_merge_size
        places, past = self.get_rope_index(
            torch.tensor([input_tokens]),
            video_grid_thw=all_of("video_grid_thw"),
            use_audio_in_video=True,
            audio_seqlens=all_of("audio_feature_lengths"),
            second_per_grids=all_of("second_per_grid_ts"),
        )
        return places[:, 0], int(past)
