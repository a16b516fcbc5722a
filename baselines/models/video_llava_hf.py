"""Video-LLaVA as transformers converted it: another model than the published one.

The class sees each frame by itself: the conversion dropped the video tower's attention over time,
and the tower's activation is quick GELU instead of GELU. What follows the tower is the same.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM, VideoLlavaConfig, VideoLlavaModel

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.llama import MINI_LLAMA2
from ovmer.baselines.miniature import publish, random_tensors, write_json, write_sentencepiece
from ovmer.baselines.models.video_llava import VideoLlavaInputs, VideoLlavaSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

KEYS = (
    (r"^image_tower\.", None),  # not on a video's path
    (r"rotary_emb\.inv_freq$|position_ids$", None),  # computed
    (r"^language_model\.", "llm."),
    (r"^video_tower\.vision_model\.", "eyes.video_tower."),
    (r"^multi_modal_projector\.", "eyes.multi_modal_projector."),
)
_PUBLISHED = (
    (r"^llm\.", "language_model."),
    (r"^eyes\.video_tower\.", "video_tower.vision_model."),
    (r"^eyes\.multi_modal_projector\.", "multi_modal_projector."),
)
_FRAMES = 8  # `video_seq_length` of the configuration is 8 times the positions of a frame
_MINIATURE = {
    "model_type": "video_llava",
    "image_token_index": 400,
    "video_token_index": 401,
    "text_config": {
        **MINI_LLAMA2,
        "vocab_size": 464,  # the tokenizer's and the added ones, rounded up to 64, as published
    },
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "patch_size": 14,
        "projection_dim": 16,
    },
}


class VideoLlavaHf(nn.Module):
    """transformers' class without its image tower, the language model beside it."""

    def __init__(self, config: VideoLlavaConfig) -> None:
        super().__init__()
        self.eyes = VideoLlavaModel(config)
        self.eyes.image_tower = nn.Identity()
        self.eyes.language_model = nn.Identity()
        self.llm = LlamaForCausalLM(config.text_config)

    @classmethod
    def load(cls, model: Path, placement: Placement) -> "VideoLlavaHf":
        """Read Video-LLaVA-7B-hf as published."""
        with weightless():
            built = cls(_config(model))
        load_strict(built, rename(read_tensors(model), KEYS), placement)
        return built

    def embed(self, inputs: VideoLlavaInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        pixels = inputs.pixels.to(self.llm.device, self.llm.dtype)
        frames = self.eyes.get_video_features(pixel_values_videos=pixels[None]).pooler_output
        return splice(self.llm.get_input_embeddings(), inputs.texts, list(frames))

    def embed_batch(self, clips: Sequence[VideoLlavaInputs]) -> list[Tensor]:
        """The prompts of several clips."""
        return [self.embed(inputs) for inputs in clips]


def read_sizes(model: Path) -> VideoLlavaSizes:
    """Read the sizes from config.json of the published checkpoint."""
    config = _config(model)
    vision, context = config.vision_config, config.text_config.max_position_embeddings
    positions = (vision.image_size // vision.patch_size) ** 2 + 1
    return VideoLlavaSizes(context, positions, vision.image_size, frames=_FRAMES, cut_at=context)


def preprocess(frames: npt.NDArray[np.uint8], size: int) -> Tensor:
    """Frames (count x height x width x 3) -> pixels (count x 3 x size x size) as CLIP has them."""
    return normalise(torch.from_numpy(shortest_side_crop(frames, size)))


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random checkpoint with the published files, token counts and context, and small widths."""
    folder = folder / "Video-LLaVA-7B-hf"
    folder.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(folder / "tokenizer.model")
    write_json(folder / "config.json", _MINIATURE)
    with weightless():
        model = VideoLlavaHf(_config(folder))
    tensors = publish(random_tensors(model, seed), _PUBLISHED)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return {"model": folder}


def _config(folder: Path) -> VideoLlavaConfig:
    return VideoLlavaConfig.from_dict(read_json(folder))
