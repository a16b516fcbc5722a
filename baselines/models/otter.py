"""Otter (Li et al., 2023, arXiv 2305.03726, 2306.05425), the LLaMA-7B model for video.

    16 frames -> CLIP ViT-L/14, last layer              -> 16 x 256 patches of width 1024
              -> with an embedding for each frame       -> 4096 x 1024
              -> Perceiver, 6 layers with 64 latents    -> 64 x 1024
              -> looked at by LLaMA 7B, before every fourth of its layers, through gates (Flamingo,
                 Alayrac et al., 2022, arXiv 2204.14198)

The video takes no prompt positions but the token <image>, from which on its words look at the
video. Words that the model says do not: upstream finds <image> among the ids of the current step
alone, and in decoding with a cache these are the new word. What it learnt of the video is in the
cache. The gated feed-forward parts act on every word.

Source: Luodian/Otter at 1e7eb9a6, `src/otter_ai/models/otter/modeling_otter.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.decoding.answers import ConditionedPrompt
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import (
    MINI_CLIP,
    ClipVision,
    clip_keys,
    clip_vision_config,
    normalise,
)
from ovmer.baselines.llama import MINI_LLAMA1, llama_config
from ovmer.baselines.miniature import (
    publish,
    random_tensors,
    write_json,
    write_sentencepiece,
    write_torch_shards,
)
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.tokenizer import LlamaTokenizer
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

# Sizes that neither file nor configuration tells: the defaults of upstream's classes.
_PERCEIVER_LAYERS = 6
_LATENTS = 64
_HEADS, _HEAD_WIDTH = 8, 64
_LAYER = -1

KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # OpenFlamingo's second names of the same layers.
    (r"^lang_encoder\.(old_decoder_blocks|gated_cross_attn_layers)\.", None),
    (r"\.decoder_layer\.", "."),
    (r"\.gated_cross_attn_layer\.(attn\.(?=norm))?", ".gated."),
    (r"^(perceiver\.layers\.\d+)\.(?=to_)", r"\1.attn."),
    (r"^lang_encoder\.", "llm."),
    (r"^vision_encoder\.", ""),  # then come those of CLIP
)
_PUBLISHED = (
    (r"^llm\.", "lang_encoder."),
    (r"(\.layers\.\d+)\.(?=self_attn|mlp|input_l|post_a)", r"\1.decoder_layer."),
    (r"\.gated\.norm\.", ".gated.attn.norm."),
    (r"\.gated\.", ".gated_cross_attn_layer."),
    (r"^(perceiver\.layers\.\d+)\.attn\.", r"\1."),
    (r"^tower\.layers\.(\d+)\.decoder_layer\.", r"tower.layers.\1."),
    (r"^tower\.layers\.", "tower.encoder.layers."),
    (r"^tower\.", "vision_encoder.vision_model."),
)
_MINIATURE: dict[str, Any] = {
    "model_type": "otter",
    "cross_attn_every_n_layers": 2,
    "max_num_frames": 128,
    "text_config": {
        "_name_or_path": "luodian/llama-7b-hf",
        **MINI_LLAMA1,
        "vocab_size": 404,  # with <|endofchunk|>, <image>, <answer> and <PAD>
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    },
    "vision_config": {**MINI_CLIP, "num_hidden_layers": 2},
}


class OtterTokenizer(LlamaTokenizer):
    """LLaMA's, with three control tokens behind its words. <|endofchunk|> alone ends an answer."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.eos_id, self.image_id, self.answer_id = (len(self) + i for i in range(3))
        self.stop_ids = (self.eos_id,)

    def decode(self, ids: Sequence[int]) -> str:
        """The text after the last <answer>, where there is one."""
        ids = list(ids)
        while self.answer_id in ids:
            ids = ids[ids.index(self.answer_id) + 1 :]
        return super().decode(ids)


@dataclass(frozen=True)
class OtterInputs:
    """One clip: the ids of its prompt, <image> among them, and the frames.

    `frames` is T x height x width x 3, uint8, in the size that the tower takes.
    """

    ids: Sequence[int]
    frames: Tensor


@dataclass(frozen=True)
class OtterSizes(PromptSizes):
    """Sizes, with the limits of the settings."""

    vocabulary: int = field(kw_only=True)
    most_frames: int | None = field(kw_only=True)
    """How many frames have an embedding; None where frames have none."""


def read_sizes(model: Path) -> OtterSizes:
    """Read the sizes from config.json of the published checkpoint."""
    config = _read_config(model)
    text = llama_config(config["text_config"])
    return OtterSizes(
        context=text.max_position_embeddings,
        image=clip_vision_config(model).image_size,
        vocabulary=text.vocab_size,
        most_frames=config.get("max_num_frames"),
    )


class CrossAttention(nn.Module):
    """Cross-attention from one sequence to another, without biases."""

    def __init__(self, width: int, seen_width: int) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_WIDTH
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(seen_width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: B x n x width, seen: B x m x seen width; returns B x n x width."""
        q, k, v = (
            part.unflatten(-1, (_HEADS, _HEAD_WIDTH)).transpose(1, 2)
            for part in (self.to_q(x), *self.to_kv(seen).chunk(2, dim=-1))
        )
        return self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class PerceiverLayer(nn.Module):
    """Latents look at the patches and at themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.attn = CrossAttention(width, width)
        self.feed_forward = _feed_forward(width)

    def forward(self, latents: Tensor, patches: Tensor) -> Tensor:
        """B x latents x width, B x patches x width -> B x latents x width."""
        normed = self.norm_latents(latents)
        seen = torch.cat([self.norm_media(patches), normed], dim=1)
        latents = latents + self.attn(normed, seen)
        return latents + self.feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Patches of all frames -> a fixed number of vectors."""

    def __init__(self, width: int, most_frames: int | None, layers: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(_LATENTS, width))
        if most_frames is None:
            self.register_parameter("frame_embs", None)
        else:
            self.frame_embs = nn.Parameter(torch.empty(most_frames, width))
        self.layers = nn.ModuleList(PerceiverLayer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        """T x patches x width -> latents x width."""
        if self.frame_embs is not None:
            patches = patches + self.frame_embs[: len(patches), None]
        seen, latents = patches.flatten(0, 1)[None], self.latents[None]
        for layer in self.layers:
            latents = layer(latents, seen)
        return self.norm(latents)[0]


class GatedCrossAttention(nn.Module):
    """Flamingo's gated cross-attention to the video, before a layer of the language model."""

    def __init__(self, width: int, media_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = CrossAttention(width, media_width)
        self.attn_gate = nn.Parameter(torch.empty(1))
        self.feed_forward = _feed_forward(width)
        self.ff_gate = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor, media: Tensor | None, looking: Tensor) -> Tensor:
        """x: B x n x width; `looking` (B x n) says which words look at `media`.

        `media` is B x latents x its width, or None where no word looks.
        """
        if media is not None:
            attended = self.attn(self.norm(x), media).masked_fill(~looking[..., None], 0)
            x = x + self.attn_gate.tanh() * attended
        return x + self.ff_gate.tanh() * self.feed_forward(x)


class OtterLayer(LlamaDecoderLayer):
    """A layer of LLaMA, some of them with a look at the video before."""

    def __init__(self, config: LlamaConfig, index: int, media_width: int | None) -> None:
        super().__init__(config, index)
        self.gated = None
        if media_width is not None:
            self.gated = GatedCrossAttention(config.hidden_size, media_width)

    def forward(
        self, hidden_states: Tensor, media: Tensor | None, looking: Tensor, **rest: Any
    ) -> Tensor:
        """B x n x width -> the same shape; `rest` is what LLaMA's layers are given."""
        if self.gated is not None:
            hidden_states = self.gated(hidden_states, media, looking)
        return super().forward(hidden_states, **rest)


class OtterLlama(LlamaForCausalLM):
    """LLaMA with a video beside the words. `generate` takes it as `media`: B x latents x width."""

    def __init__(self, config: LlamaConfig, media_width: int, every: int, image_id: int) -> None:
        super().__init__(config)
        self.image_id = image_id
        self.model.layers = nn.ModuleList(
            OtterLayer(config, i, None if (i + 1) % every else media_width)
            for i in range(config.num_hidden_layers)
        )

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, media: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The arguments of `forward` in one step of `generate`."""
        # `generate` looks for the name `kwargs` before it lets arguments of `forward` pass.
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        return inputs | self.looks(inputs["input_ids"], media)

    def looks(self, input_ids: Tensor, media: Tensor | None) -> dict[str, Tensor | None]:
        """Arguments of `forward` beside the ids of one step (B x n)."""
        looking = (input_ids == self.image_id).cumsum(dim=-1) > 0
        return {"media": media if looking.any() else None, "looking": looking}


class Otter(nn.Module):
    """Tower, perceiver and language model, with the sizes of the published configuration."""

    def __init__(
        self, config: Mapping[str, Any], tower: CLIPVisionConfig, layers: int, image_id: int
    ) -> None:
        super().__init__()
        width = tower.hidden_size
        self.tower = ClipVision(tower, _LAYER)
        self.perceiver = PerceiverResampler(width, config.get("max_num_frames"), layers)
        text = llama_config(config["text_config"])
        self.llm = OtterLlama(text, width, config["cross_attn_every_n_layers"], image_id)

    @classmethod
    def load(
        cls,
        model: Path,
        image_id: int,
        placement: Placement,
        perceiver_layers: int = _PERCEIVER_LAYERS,
    ) -> "Otter":
        """Read OTTER-Video-LLaMA7B-DenseCaption as published; `image_id` is the token <image>."""
        vision = clip_vision_config(model)
        with weightless():
            built = cls(_read_config(model), vision, perceiver_layers, image_id)
        tensors = rename(read_tensors(model), (*KEYS, *clip_keys(vision, _LAYER, "tower.")))
        load_strict(built, tensors, placement)
        return built

    def encode(self, frames: Tensor) -> Tensor:
        """T x height x width x 3, uint8 -> latents x the tower's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        return self.perceiver(self.tower(pixels)[:, 1:])

    def embed(self, inputs: OtterInputs) -> ConditionedPrompt:
        """The prompt of one clip, which is ids with a video beside them."""
        return ConditionedPrompt(inputs.ids, self.encode(inputs.frames))


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder)
    if lost := {"text_config", "cross_attn_every_n_layers"} - config.keys():
        raise CheckpointError(
            f"{folder / 'config.json'} lacks {', '.join(sorted(lost))}; is it an Otter?"
        )
    return config


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Otter with the published files, token counts and context, and small widths.

    Returns the folder of each part of the checkpoint.
    """
    model_part, tokenizer = folder / "OTTER-Video-LLaMA7B-DenseCaption", folder / "llama-7b-hf"
    for part in (model_part, tokenizer):
        part.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(tokenizer / "tokenizer.model", _MINIATURE["text_config"]["vocab_size"] - 4)
    write_json(model_part / "config.json", _MINIATURE)
    with weightless():
        model = Otter(_MINIATURE, clip_vision_config(model_part), _PERCEIVER_LAYERS, image_id=0)
    tensors = publish(random_tensors(model, seed), _PUBLISHED)
    for name, tensor in tensors.items():
        if name.endswith("_gate"):
            tensor.fill_(1)  # open, or all clips would get the same answer
    unused = "vision_encoder.vision_model.post_layernorm.bias"
    tensors[unused] = torch.zeros(_MINIATURE["vision_config"]["hidden_size"])
    write_torch_shards(model_part, tensors, shards=2)
    return {"model": model_part, "tokenizer": tokenizer}
