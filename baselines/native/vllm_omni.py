"""The thinkers of Qwen's omni models in vLLM, with the sound where they were taught to expect it.

vLLM 0.32 has sound woven into a video (`use_audio_in_video`) wrong. For Qwen2.5-Omni it lays the
frames out as if they were a second apart, whatever their distance in time; for both, the tokens'
positions in time and picture are not always those of the tokens there. Here the order and the
positions are as in transformers. But in vLLM positions are whole numbers: Qwen3-Omni's frames,
between two thirteenths of a second in transformers, come down to the earlier one.

The classes go by names of their own, so that vLLM's are left as they are for everybody else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Reference2_5
from transformers import Qwen3OmniMoeThinkerForConditionalGeneration as Reference3
from vllm.model_executor.models import qwen2_5_omni_thinker as original2_5
from vllm.model_executor.models import qwen3_omni_moe_thinker as original3
from vllm.multimodal import MULTIMODAL_REGISTRY


class _Placed:
    """The positions of a woven prompt's tokens, by the method of transformers' class."""

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[Any]
    ) -> tuple[torch.Tensor, int]:
        """The positions (3 x tokens: time, height, width), and how far they exceed the tokens."""

        def all_of(name: str) -> torch.Tensor | None:
            found = [each.data[name].data for each in mm_features if name in each.data]
            return torch.stack([each.squeeze() for each in found]) if found else None

        woven = all_of("use_audio_in_video")
        if woven is None or not woven.any():
            return super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc]
        self.spatial_merge_size = self.config.vision_config.spatial_merge_size  # type: ignore[attr-defined]
        tokens = torch.tensor([input_tokens])
        found, _ = self.get_rope_index(  # type: ignore[attr-defined]
            tokens,
            attention_mask=torch.ones_like(tokens),
            video_grid_thw=all_of("video_grid_thw"),
            use_audio_in_video=True,
            audio_seqlens=all_of("audio_feature_lengths"),
            second_per_grids=all_of("second_per_grid_ts"),
        )
        positions = found[:, 0].long()
        return positions, int(positions.max()) + 1 - len(input_tokens)


class Processor2_5(original2_5.Qwen2_5OmniThinkerMultiModalProcessor):
    """Weaves by the distance in time that the checkpoint's processor tells."""

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        seconds = out_mm_kwargs.get_data().get("second_per_grid_ts")
        if seconds is not None:
            timing = {"second_per_grid_ts": torch.as_tensor(seconds).tolist()}
            hf_processor_mm_kwargs = {**hf_processor_mm_kwargs, **timing}
        return super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)


@MULTIMODAL_REGISTRY.register_processor(
    Processor2_5,
    info=original2_5.Qwen2_5OmniThinkerProcessingInfo,
    dummy_inputs=original2_5.Qwen2_5OmniThinkerDummyInputsBuilder,
)
class Thinker2_5(_Placed, original2_5.Qwen2_5OmniThinkerForConditionalGeneration):
    """Qwen2.5-Omni's."""

    get_rope_index = Reference2_5.get_rope_index
    get_llm_pos_ids_for_vision = Reference2_5.get_llm_pos_ids_for_vision
    get_chunked_index = Reference2_5.get_chunked_index


@MULTIMODAL_REGISTRY.register_processor(
    original3.Qwen3OmniMoeThinkerMultiModalProcessor,
    info=original3.Qwen3OmniMoeThinkerProcessingInfo,
    dummy_inputs=original3.Qwen3OmniMoeThinkerDummyInputsBuilder,
)
class Thinker3(_Placed, original3.Qwen3OmniMoeThinkerForConditionalGeneration):
    """Qwen3-Omni's."""

    get_rope_index = Reference3.get_rope_index
    get_llm_pos_ids_for_vision = Reference3.get_llm_pos_ids_for_vision
