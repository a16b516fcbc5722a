"""Chat models at their published sizes, without data: from media through prompt to logits.

Each gets a prompt of three words, a medium (a video of few and small frames, pictures, or sound)
and four words, as its processor would hand it over. That the class accepts it says that towers,
connectors and language model of these sizes fit each other, and how many tokens a medium takes.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.adapters.chat_models import content_of
from tests.baselines.shapes import Shapes
from tests.baselines.test_chat_sizes import SIZES, built, marked

FRAMES, HIGH, WIDE = 4, 8, 12
"""A video of few patches: pairs of frames, and patches of each."""
Inputs = dict[str, Any]


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def prompt(*media: tuple[int, int]) -> Tensor:
    """Ids of three words, of placeholders in the numbers given, and of four words."""
    ids = [token for token, count in media for _ in range(count)]
    return torch.tensor([[100] * 3 + ids + [101] * 4])


def patches(config: Any) -> tuple[Tensor, Tensor, int]:
    """Patches of a video as Qwen's processors cut them, their grid, and its tokens."""
    eye = config.vision_config
    channels = getattr(eye, "in_channels", getattr(eye, "in_chans", 3))
    size = channels * getattr(eye, "temporal_patch_size", 1) * eye.patch_size**2
    grid = torch.tensor([[FRAMES, HIGH, WIDE]])
    return meta(FRAMES * HIGH * WIDE, size), grid, FRAMES * HIGH * WIDE // 4


def qwen(config: Any, whole: bool = False) -> Inputs:
    """`whole`: all frames in one run of placeholders; else times stand between them."""
    video, grid, count = patches(config)
    # GLM marks the frames of a video as pictures.
    token = config.image_token_id if "glm" in config.model_type else config.video_token_id
    runs = [(token, count)] if whole else [(token, count // FRAMES), (101, 2)] * FRAMES
    ids = prompt(*runs)
    kinds = (ids == token).long() * 2
    return {
        "input_ids": ids, "pixel_values_videos": video, "video_grid_thw": grid,
        "mm_token_type_ids": kinds,
    }  # fmt: skip


def omni(config: Any) -> Inputs:
    """A second of sound after the video."""
    given = qwen(config, whole=True)
    tokens = {"qwen2_5_omni_thinker": 25, "qwen3_omni_moe_thinker": 13}[config.model_type]
    heard = torch.tensor([[config.audio_token_id] * tokens])
    ids = torch.cat([given["input_ids"], heard], 1)
    kinds = (ids == config.video_token_id).long() * 2 + (ids == config.audio_token_id).long() * 3
    mask = torch.ones(1, 100, dtype=torch.long)
    sound = {"input_features": meta(1, 128, 100), "feature_attention_mask": mask}
    return {**given, "input_ids": ids, "mm_token_type_ids": kinds, **sound}


def whisper(mask: str, tokens: int) -> Callable[[Any], Inputs]:
    """Thirty seconds."""

    def given(config: Any) -> Inputs:
        masks = {mask: torch.ones(1, 3000, dtype=torch.long)} if mask else {}
        ids = prompt((config.audio_token_id, tokens))
        return {"input_ids": ids, "input_features": meta(1, 128, 3000), **masks}

    return given


def llava(side: int, tokens: int) -> Callable[[Any], Inputs]:
    def given(config: Any) -> Inputs:
        video = meta(1, 8, 3, side, side)
        return {"input_ids": prompt((config.video_token_id, tokens)), "pixel_values_videos": video}

    return given


def pictures(side: int, tokens: int) -> Callable[[Any], Inputs]:
    def given(config: Any) -> Inputs:
        ids = prompt((config.image_token_id, 2 * tokens))
        return {"input_ids": ids, "pixel_values": meta(2, 3, side, side)}

    return given


def smolvlm(config: Any) -> Inputs:
    """Real pictures: those that are all zeros are taken for padding."""
    seen = torch.ones(1, 2, 3, 384, 384, dtype=torch.bfloat16)
    mask = torch.ones(1, 2, 384, 384, dtype=torch.bool)
    ids = prompt((config.image_token_id, 2 * 81))
    return {"input_ids": ids, "pixel_values": seen, "pixel_attention_mask": mask}


def videollama(config: Any) -> Inputs:
    video, grid, count = patches(config)
    kept = torch.ones(count, dtype=torch.bool)
    return {
        "input_ids": prompt((config.video_token_id, count)), "pixel_values_videos": video,
        "video_grid_thw": grid, "video_merge_sizes": torch.tensor([2]),
        "video_compression_mask": kept,
    }  # fmt: skip


def gemma(pixels: int, merged: int) -> Callable[[Any], Inputs]:
    """Two pictures of 9 x 9 patches, of which a token takes `merged`."""

    def given(config: Any) -> Inputs:
        axis = torch.arange(9)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(1, 81, 2)
        ids = prompt((config.image_token_id, 2 * 81 // merged))
        return {
            "input_ids": ids, "pixel_values": meta(2, 81, pixels),
            "image_position_ids": grid.expand(2, 81, 2),
            "mm_token_type_ids": (ids == config.image_token_id).long(),
        }  # fmt: skip

    return given


def minicpm(config: Any) -> Inputs:
    video = meta(1, 3, 14, 2 * 64 * 14)
    sizes = torch.tensor([[8, 8], [8, 8]])
    ids = prompt((config.video_token_id, 2 * 64 // 16))
    return {"input_ids": ids, "pixel_values_videos": video, "target_sizes_videos": sizes}


MEDIA: dict[str, Callable[[Any], Inputs]] = {
    "Qwen2_5_VLForConditionalGeneration": lambda config: qwen(config, whole=True),
    "Qwen3VLForConditionalGeneration": qwen,
    "Qwen3VLMoeForConditionalGeneration": qwen,
    "Qwen3_5ForConditionalGeneration": qwen,
    "Qwen3_5MoeForConditionalGeneration": qwen,
    "Glm4vForConditionalGeneration": qwen,
    "Qwen2_5OmniThinkerForConditionalGeneration": omni,
    "Qwen3OmniMoeThinkerForConditionalGeneration": omni,
    "Qwen2AudioForConditionalGeneration": whisper("feature_attention_mask", 750),
    "AudioFlamingo3ForConditionalGeneration": whisper("input_features_mask", 750),
    "VoxtralForConditionalGeneration": whisper("", 375),
    "LlavaNextVideoForConditionalGeneration": llava(336, 8 * 144),
    "LlavaOnevisionForConditionalGeneration": llava(384, 8 * 196 + 1),
    "InternVLForConditionalGeneration": pictures(448, 256),
    "Gemma3nForConditionalGeneration": pictures(768, 256),
    "SmolVLMForConditionalGeneration": smolvlm,
    "VideoLlama3ForConditionalGeneration": videollama,
    "Gemma4ForConditionalGeneration": gemma(3 * 16**2, 9),
    "Gemma4UnifiedForConditionalGeneration": gemma(3 * 48**2, 1),
    "MiniCPMV4_6ForConditionalGeneration": minicpm,
}
NAMES = [name for name in SIZES if content_of(name)["architecture"] in MEDIA]


@pytest.mark.parametrize("name", marked(NAMES))
def test_media_pass_through_to_the_logits(name: str) -> None:
    model: Any = built(name)
    given = MEDIA[content_of(name)["architecture"]](model.config)
    with torch.no_grad(), Shapes():
        logits = model(**given, use_cache=False).logits
    words = model.config.get_text_config().vocab_size
    assert list(logits.shape) == [*given["input_ids"].shape, words]


def test_media_of_every_sized_model_are_known() -> None:
    assert list(SIZES) == NAMES
