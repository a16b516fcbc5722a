"""mPLUG-Owl (Ye et al., 2023, arXiv 2304.14178), the 7B model for video.

    4 frames -> ViT-L/14, before each layer a convolution over time -> 4 x 257 tokens of width 1024
             -> abstractor, 64 queries and 64 for time, added       -> 64 vectors of width 4096
             -> with one that ends them, a slot of 65 in the prompt of LLaMA 7B

The model was trained with all weights in one file, those of the language model included.
Source: X-PLUG/mPLUG-Owl at 0f3068fd, `mplug_owl_video/modeling_mplug_owl.py` (the image model of
the same name, in `mplug_owl/`, has no layers over time).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import CLIPVisionConfig, LlamaForCausalLM
from transformers.models.clip.modeling_clip import CLIPMLP

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import MINI_CLIP, clip_vision_config, normalise
from ovmer.baselines.llama import MINI_LLAMA1, llama_config
from ovmer.baselines.miniature import (
    publish,
    random_tensors,
    write_json,
    write_sentencepiece,
    write_torch_shards,
)
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

IMAGE = 224
"""Side of a frame in pixels (`load_video` of processing_mplug_owl.py)."""

KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    (r"position_ids$", None),  # computed
    (r"^language_model\.", "llm."),
    (r"^vision_model\.(encoder\.)?", "tower."),
    (r"^((temporal_)?query_tokens)$", r"abstractor.\1"),
    (r"^abstractor\.encoder\.", "abstractor."),
    (r"\.crossattention\.((attention|output)\.)?(mlp\.)?", "."),
)
_PUBLISHED = (
    (r"^llm\.", "language_model."),
    (r"^tower\.layers\.", "vision_model.encoder.layers."),
    (r"^tower\.", "vision_model."),
    (r"^abstractor\.((temporal_)?query_tokens)$", r"\1"),
    (r"^abstractor\.(layers\.\d+)\.", r"abstractor.encoder.\1.crossattention."),
    (r"\.crossattention\.(query|key|value)\.", r".crossattention.attention.\1."),
    (r"\.crossattention\.(out_proj|norm2)\.", r".crossattention.output.\1."),
    (r"\.crossattention\.(w[123]|ffn_ln)\.", r".crossattention.output.mlp.\1."),
)
_SECTIONS = ("text_config", "visual_abstractor_config", "num_query_tokens")
_ABSTRACTOR_FIELDS = (
    "hidden_size",
    "encoder_hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "layer_norm_eps",
)
_MINIATURE: dict[str, Any] = {
    "model_type": "mplug-owl",
    "num_query_tokens": 64,
    "text_config": MINI_LLAMA1,
    "vision_config": {**MINI_CLIP, "num_hidden_layers": 2, "layer_norm_eps": 1e-6},
    "visual_abstractor_config": {
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "layer_norm_eps": 1e-6,
    },
}


@dataclass(frozen=True)
class MplugOwlInputs:
    """One clip: token ids before and after the video, and the frames.

    `frames` is T x height x width x 3, uint8, in the size that the tower takes; T is at least 2.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor


def read_sizes(model: Path) -> PromptSizes:
    """Read the sizes from config.json of the published checkpoint."""
    config = _read_config(model)
    context = llama_config(config["text_config"]).max_position_embeddings
    return PromptSizes(context, config["num_query_tokens"] + 1, IMAGE)


class LocalTemporal(nn.Module):
    """Residual of each patch from a convolution over its neighbours in time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.ln = nn.LayerNorm(width)
        self.down_proj = nn.Conv3d(width, inner, kernel_size=1)
        self.conv = nn.Conv3d(inner, inner, (3, 1, 1), padding=(1, 0, 0), groups=inner)
        self.up_proj = nn.Conv3d(inner, width, kernel_size=1)

    def forward(self, patches: Tensor) -> Tensor:
        """T x patches x width -> the same shape."""
        x = self.ln(patches).permute(2, 0, 1)[..., None]  # width x T x patches x 1
        x = self.conv(self.down_proj(x))
        x = self.up_proj(x * torch.sigmoid(1.702 * x))
        return x[..., 0].permute(1, 2, 0)


class SelfAttention(nn.Module):
    """Attention within a frame; queries, keys and values come from one matrix, head by head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """T x positions x width -> the same shape."""
        by_head = self.query_key_value(x).unflatten(-1, (self.heads, 3, -1)).transpose(1, 2)
        attended = scaled_dot_product_attention(*by_head.unbind(-2))
        return self.dense(attended.transpose(1, 2).flatten(2))


class MplugOwlVisionLayer(nn.Module):
    """A block of a ViT that first attends to other frames."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.temporal = LocalTemporal(width)
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.self_attn = SelfAttention(width, config.num_attention_heads)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = CLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """T x positions x width -> the same shape."""
        token, patches = x[:, :1], x[:, 1:]
        # Upstream hands the class token through the temporal part as it is and adds the result to
        # the input, which doubles the token in every layer. The weights are trained for that.
        x = torch.cat([token + token, patches + self.temporal(patches)], dim=1)
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Embeddings(nn.Module):
    """Patches and the class token, with position embeddings in the picture but not in time."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Parameter(torch.empty(1, positions, width))
        self.pre_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> T x positions x width."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.pre_layernorm(x + self.position_embedding)


class MplugOwlVision(nn.Module):
    """The vision tower; all its tokens are used, the class token too."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            MplugOwlVisionLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> T x positions x width."""
        x = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        return self.post_layernorm(x)


class AbstractorLayer(nn.Module):
    """Queries attend to themselves and to all frames, then a gated MLP."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, seen = config["hidden_size"], config["encoder_hidden_size"]
        inner = _inner_width(config["intermediate_size"])
        self.heads = config["num_attention_heads"]
        self.norm1 = nn.LayerNorm(width)
        self.normk = nn.LayerNorm(seen)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(seen, width)
        self.value = nn.Linear(seen, width)
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.w1 = nn.Linear(width, inner)
        self.w3 = nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=config["layer_norm_eps"])
        self.w2 = nn.Linear(inner, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: queries x width, seen: tokens x their width; returns queries x width."""
        x = self.norm1(x)  # upstream's residual starts from the normalised queries
        context = torch.cat([x, self.normk(seen)])
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(0, 1)
            for part in (self.query(x), self.key(context), self.value(context))
        )
        # With a batch of one, as the kernels of the attention want it.
        attended = scaled_dot_product_attention(q[None], k[None], v[None])[0]
        x = x + self.out_proj(attended.transpose(0, 1).flatten(1))
        y = self.norm2(x)
        return x + self.w2(self.ffn_ln(silu(self.w1(y)) * self.w3(y)))


class Abstractor(nn.Module):
    """Tokens of all frames -> a fixed number of vectors in the language model's space."""

    def __init__(self, config: Mapping[str, Any], queries: int, hidden_size: int) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.query_tokens = nn.Parameter(torch.empty(1, queries, width))
        self.temporal_query_tokens = nn.Parameter(torch.empty(1, queries, width))
        self.layers = nn.ModuleList(
            AbstractorLayer(config) for _ in range(config["num_hidden_layers"])
        )
        self.visual_fc = nn.Linear(width, hidden_size)
        self.temporal_visual_fc = nn.Linear(width, hidden_size)
        self.vit_eos = nn.Parameter(torch.empty(1, 1, hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens x width, frame after frame -> (queries + 1) x the language model's width."""
        x = torch.cat([self.query_tokens, self.temporal_query_tokens], dim=1)[0]
        for layer in self.layers:
            x = layer(x, tokens)
        still, moving = x.chunk(2)
        return torch.cat([self.visual_fc(still) + self.temporal_visual_fc(moving), self.vit_eos[0]])


class MplugOwl(nn.Module):
    """Tower, abstractor and language model, with the sizes of the published configuration."""

    def __init__(self, config: Mapping[str, Any], vision: CLIPVisionConfig) -> None:
        super().__init__()
        text = llama_config(config["text_config"])
        self.tower = MplugOwlVision(vision)
        self.abstractor = Abstractor(
            config["visual_abstractor_config"], config["num_query_tokens"], text.hidden_size
        )
        self.llm = LlamaForCausalLM(text)

    @classmethod
    def load(cls, model: Path, placement: Placement) -> "MplugOwl":
        """Read mplug-owl-llama-7b-video as published."""
        with weightless():
            built = cls(_read_config(model), clip_vision_config(model))
        load_strict(built, rename(read_tensors(model), KEYS), placement)
        return built

    def encode(self, frames: Tensor) -> Tensor:
        """T x height x width x 3, uint8 -> 65 x the language model's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        return self.abstractor(self.tower(pixels).flatten(0, 1))

    def embed(self, inputs: MplugOwlInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        video = self.encode(inputs.frames)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [video])


def _inner_width(intermediate: int) -> int:
    """Width of the gated MLP: two thirds of the configured size, in multiples of 256."""
    if intermediate == 2816:  # the result for 4096, kept where a configuration has it already
        return intermediate
    return 256 * math.ceil(2 * intermediate // 3 / 256)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder)
    if "visual_abstractor_config" not in config and "abstractor_config" in config:  # its first name
        config["visual_abstractor_config"] = config["abstractor_config"]
    lost = [name for name in _SECTIONS if name not in config]
    abstractor = config.get("visual_abstractor_config", {})
    lost += [name for name in _ABSTRACTOR_FIELDS if name not in abstractor]
    if lost:
        raise CheckpointError(
            f"{folder / 'config.json'} lacks {', '.join(lost)}; is it mplug-owl-llama-7b-video?"
        )
    return config


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random mPLUG-Owl with the published files, token counts and context, and small widths.

    Returns the folder of the checkpoint.
    """
    part = folder / "mplug-owl-llama-7b-video"
    part.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(part / "tokenizer.model", _MINIATURE["text_config"]["vocab_size"])
    write_json(part / "config.json", _MINIATURE)
    with weightless():
        model = MplugOwl(_MINIATURE, clip_vision_config(part))
    write_torch_shards(part, publish(random_tensors(model, seed), _PUBLISHED), shards=2)
    return {"model": part}
