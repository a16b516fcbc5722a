"""Video-LLaVA (Lin et al., 2023, arXiv 2311.10122), its video path as published.

    8 frames -> LanguageBind ViT-L/14 with temporal attention -> 8 x 257 tokens of width 1024
             -> Linear, GELU, Linear                          -> 8 x 257 vectors of width 4096
             -> one slot per frame in the prompt of Vicuna-7B v1.5

transformers has a class of that name that leaves out the temporal attention and computes something
else (relative error of the encoder 0.9). Source: PKU-YuanGroup/Video-LLaVA at 984e65bf,
`languagebind/video/modeling_video.py` for the tower, `llava_arch.py` for the order of the pieces.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPVisionConfig, LlamaForCausalLM
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPVisionEmbeddings,
)

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.images import CLIP_MEAN, CLIP_STD
from ovmer.baselines.layers.clip_vision import CLIP_FIELDS, MINI_CLIP, clip_keys
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, write_llama_miniature
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

LLM_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # Copies of the towers. As upstream does, the video tower is read from its own repository;
    # the image tower is not on a video's path.
    (r"^model\.(video|image)_tower\.", None),
    (r"^model\.mm_projector\.", "projector."),
    (r"^(model|lm_head)\.", r"llm.\1."),
)
PUBLISHED = (
    (r"^projector\.", "model.mm_projector."),
    (r"^llm\.", ""),
    (r"^tower\.layers\.", "vision_model.encoder.layers."),
    (r"^tower\.", "vision_model."),
)
_MINIATURE_LLM: dict[str, Any] = {
    **MINI_LLAMA2,
    "model_type": "llava",
    "mm_vision_select_layer": -2,
    "mm_projector_type": "mlp2x_gelu",
}
_MINIATURE_TOWER: dict[str, Any] = {
    "model_type": "LanguageBindVideo",
    "vision_config": {**MINI_CLIP, "hidden_act": "gelu", "add_time_attn": True, "num_frames": 8},
}


@dataclass(frozen=True)
class VideoLlavaInputs:
    """One clip: token ids around the slots (one list more than frames) and the frames.

    `pixels` is frames x 3 x height x width, as `preprocess` makes it.
    """

    texts: Sequence[Sequence[int]]
    pixels: Tensor

    def mirrored(self) -> "VideoLlavaInputs":
        """The same clip with left and right swapped."""
        return replace(self, pixels=self.pixels.flip(-1))


@dataclass(frozen=True)
class VideoLlavaSizes(PromptSizes):
    """Sizes, with the limits of frames and prompt."""

    frames: int = field(kw_only=True)
    cut_at: int = field(kw_only=True)
    """Upstream drops what a prompt holds beyond this length."""


def read_sizes(llm: Path, tower: Path) -> VideoLlavaSizes:
    """Read the sizes from the two config.json files of the published checkpoint."""
    text = read_json(llm)
    vision, frames = _vision_config(read_json(tower))
    context = llama_config(text).max_position_embeddings
    return VideoLlavaSizes(
        context=context,
        positions=(vision.image_size // vision.patch_size) ** 2 + 1,
        image=vision.image_size,
        frames=frames,
        cut_at=text.get("tokenizer_model_max_length") or context,
    )


class TemporalLayer(CLIPEncoderLayer):
    """A CLIP block that first looks across time, at each position of the picture by itself."""

    def __init__(self, config: CLIPVisionConfig, frames: int) -> None:
        super().__init__(config)
        self.temporal_embedding = nn.Parameter(torch.empty(1, frames, config.hidden_size))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: (clips x frames) x positions x width, CLS being position 0."""
        frames, (positions, width) = self.temporal_embedding.shape[1], x.shape[1:]
        clips = x.view(-1, frames, positions, width) + self.temporal_embedding[:, :, None]
        by_position = self.temporal_layer_norm1(clips).transpose(1, 2).flatten(0, 1)
        seen = self.temporal_attn(by_position)[0].view(-1, positions, frames, width)
        return super().forward((clips + seen.transpose(1, 2)).flatten(0, 1), attention_mask=None)


class VideoTower(nn.Module):
    """LanguageBind's video encoder up to the layer whose output is used."""

    def __init__(self, config: CLIPVisionConfig, frames: int, layers: int | None = None) -> None:
        super().__init__()
        if layers is None:
            layers = config.num_hidden_layers
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(TemporalLayer(config, frames) for _ in range(layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """(Clips x frames) x 3 x height x width -> (clips x frames) x positions x width."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.layers:
            x = layer(x)
        return x


class VideoLlava(nn.Module):
    """Tower, projector and language model, with the sizes of the published configurations.

    `llm` and `tower` are the contents of the two config.json files.
    """

    def __init__(self, llm: dict[str, Any], tower: dict[str, Any]) -> None:
        super().__init__()
        vision, frames = _vision_config(tower)
        text = llama_config(llm)
        # hidden_states[n] is the output of layer n counted from 1, so -2 stops before the last.
        self.tower = VideoTower(vision, frames, vision.num_hidden_layers + 1 + _layer(llm))
        self.projector = nn.Sequential(
            nn.Linear(vision.hidden_size, text.hidden_size),
            nn.GELU(),
            nn.Linear(text.hidden_size, text.hidden_size),
        )
        self.llm = LlamaForCausalLM(text)

    @classmethod
    def load(cls, llm: Path, tower: Path, placement: Placement) -> "VideoLlava":
        """Read Video-LLaVA-7B (`llm`) and LanguageBind_Video_merge (`tower`) as published."""
        config, seen = read_json(llm), read_json(tower)
        with weightless():
            model = cls(config, seen)
        keys = clip_keys(_vision_config(seen)[0], _layer(config), "tower.")
        tensors = join(
            rename(read_tensors(llm), LLM_KEYS),
            rename(read_tensors(tower), keys),
        )
        load_strict(model, tensors, placement)
        return model

    def encode(self, pixels: Tensor) -> Tensor:
        """(Clips x frames) x 3 x height x width -> (clips x frames) x positions x the language
        model's width."""
        return self.projector(self.tower(pixels.to(self.llm.device, self.llm.dtype)))

    def embed(self, inputs: VideoLlavaInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        return self.embed_batch([inputs])[0]

    def embed_batch(self, clips: Sequence[VideoLlavaInputs]) -> list[Tensor]:
        """The prompt embeddings of each clip, all seen by the tower at once."""
        pixels = torch.cat([inputs.pixels for inputs in clips])
        words, frames = self.llm.get_input_embeddings(), self.encode(pixels)
        parts = frames.split([len(inputs.pixels) for inputs in clips])
        return [
            splice(words, inputs.texts, list(part))
            for inputs, part in zip(clips, parts, strict=True)
        ]


def preprocess(frames: np.ndarray, size: int) -> Tensor:
    """Frames (count x height x width x 3, uint8) -> pixels (count x 3 x size x size, float32).

    Upstream's order, which differs from CLIP's processor: normalise, then bring the short side to
    `size` bilinearly without antialiasing, then crop the centre.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    pixels = (pixels - mean) / std
    height, width = pixels.shape[-2:]
    if width < height:
        scaled = (math.floor(height / width * size), size)
    else:
        scaled = (size, math.floor(width / height * size))
    pixels = interpolate(pixels, scaled, mode="bilinear", align_corners=False)
    top, left = (round((length - size) / 2) for length in scaled)
    return pixels[..., top : top + size, left : left + size].contiguous()


def _layer(llm: dict[str, Any]) -> int:
    """The hidden state of the tower that is used, counted from the last."""
    return int(llm.get("mm_vision_select_layer", -2))


def _vision_config(tower: dict[str, Any]) -> tuple[CLIPVisionConfig, int]:
    published = tower.get("vision_config") or {}
    if not published.get("add_time_attn") or "num_frames" not in published:
        raise CheckpointError(
            "config.json of the video tower tells of no attention over time (add_time_attn, "
            "num_frames); is it LanguageBind_Video_merge?"
        )
    fields = {key: published[key] for key in CLIP_FIELDS if key in published}
    return CLIPVisionConfig(**fields, attn_implementation="sdpa"), published["num_frames"]


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Video-LLaVA with the published files, token counts and context, and small widths.

    Returns the folder of each part of the checkpoint.
    """
    llm, tower = folder / "Video-LLaVA-7B", folder / "LanguageBind_Video_merge"
    tower.mkdir(parents=True, exist_ok=True)
    write_json(tower / "config.json", _MINIATURE_TOWER)
    with weightless():
        model = VideoLlava(_MINIATURE_LLM, _MINIATURE_TOWER)
        # The published tower has the layers above the one that is used as well.
        model.tower = VideoTower(*_vision_config(_MINIATURE_TOWER))
    tensors = publish(random_tensors(model, seed), PUBLISHED)
    vision = {key: tensors.pop(key) for key in list(tensors) if key.startswith("vision_model.")}
    embedded = {
        f"model.video_tower.{key.replace('vision_model', 'video_tower')}": value
        for key, value in vision.items()
    }
    write_llama_miniature(llm, _MINIATURE_LLM, tensors | embedded)
    torch.save(vision, tower / "pytorch_model.bin")
    return {"llm": llm, "tower": tower}
