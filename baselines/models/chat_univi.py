"""Chat-UniVi (Jin et al., CVPR 2024, arXiv 2311.08046), 7B v1.

    T frames -> CLIP ViT-L/14, last layer but one   -> T x 256 patches of width 1024
             -> merge frames into events            -> E events, E = T / 16
             -> merge patches within each event     -> E x (64 + 32 + 16) tokens of width 1024
             -> Linear                              -> E x 112 vectors of width 4096
             -> one slot in the prompt of Vicuna-7B v1.5

Merging has no weights but a random part: noise of 1e-6 that breaks ties. It decides next to nothing
in clips of up to 16 frames (one event). From 17 to 48 frames the published settings measure the
density of frames over one neighbour, each frame itself, so that chance alone makes the events.

Source: PKU-YuanGroup/Chat-UniVi at ec0b3db2, `ChatUniVi/model/arch.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import (
    ClipVision,
    clip_keys,
    clip_vision_config,
    normalise,
    write_clip_miniature,
)
from ovmer.baselines.layers.density_peaks import Draw, TokenMerging
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, write_llama_miniature
from ovmer.baselines.miniature import publish, random_tensors
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

LLM_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    (r"^model\.vision_tower\.", None),  # a copy; as upstream does, CLIP's own folder is read
    (r"^model\.mm_projector\.", "projector."),
    (r"^(model|lm_head)\.", r"llm.\1."),
)
# arch.py: ctm0, ctm1, ctm2 for patches, ctm3 for frames. The rates are in config.json.
_PATCH_NEIGHBOURS = (5, 3, 3)
_FRAME_NEIGHBOURS = 5
_FEWEST_FRAMES = 3
"""Fewer are pictures to upstream: no events, 112 tokens for each."""

_PUBLISHED = (
    (r"^projector\.", "model.mm_projector."),
    (r"^llm\.", ""),
)
_MINIATURE: dict[str, Any] = {
    **MINI_LLAMA2,
    "model_type": "ChatUniVi",
    "mm_vision_tower": "openai/clip-vit-large-patch14",
    "mm_vision_select_layer": -2,
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "config": {
        "use_cluster": True,
        "spatial_cluster_rate0": 64,
        "spatial_cluster_rate1": 32,
        "spatial_cluster_rate2": 16,
        "temporal_cluster_rate": 0.0625,
    },
}


class EventMerging(nn.Module):
    """Patches of frames -> tokens of events, each seen at three grains, the finest first.

    `rates` is the entry `config` of the published config.json: for patches, numbers of tokens.
    """

    def __init__(self, rates: dict[str, Any]) -> None:
        super().__init__()
        counts = [int(rates[f"spatial_cluster_rate{grain}"]) for grain in range(3)]
        self.tokens = sum(counts)
        self.grains = nn.ModuleList(map(TokenMerging, counts, _PATCH_NEIGHBOURS))
        self.events = TokenMerging(rates["temporal_cluster_rate"], _FRAME_NEIGHBOURS)

    def positions(self, frames: int) -> int:
        """Number of tokens for a number of frames."""
        events = frames if frames < _FEWEST_FRAMES else self.events.count(frames)
        return events * self.tokens

    def forward(self, patches: Tensor, draw: Draw) -> Tensor:
        """T x 256 x width -> (112 for each event) x width, in the order in which events begin."""
        if len(patches) < _FEWEST_FRAMES:
            return torch.cat(self._of_frames(patches, draw), dim=1).flatten(0, 1)
        _, events = self.events(patches.mean(dim=1)[None], draw)
        by_grain = self._of_frames(patches, draw)
        tokens = []
        for event in dict.fromkeys(events[0].tolist()):
            for merge, frames in zip(self.grains, by_grain, strict=True):
                together = frames[events[0] == event].flatten(0, 1)[None]
                tokens.append(merge(together, draw)[0][0])
        return torch.cat(tokens)

    def _of_frames(self, patches: Tensor, draw: Draw) -> list[Tensor]:
        """The tokens of each frame by itself; each grain is merged from the one before."""
        by_grain = []
        for merge in self.grains:
            patches, _ = merge(patches, draw)
            by_grain.append(patches)
        return by_grain


@dataclass(frozen=True)
class ChatUniViSizes(PromptSizes):
    """Sizes with the merging, which decides how many positions a clip takes."""

    merging: EventMerging = field(kw_only=True)


def read_sizes(llm: Path, tower: Path) -> ChatUniViSizes:
    """Read the sizes from the two config.json files of the published checkpoint."""
    config = _read_config(llm)
    return ChatUniViSizes(
        context=llama_config(config).max_position_embeddings,
        image=clip_vision_config(tower).image_size,
        merging=EventMerging(config["config"]),
    )


@dataclass(frozen=True)
class ChatUniViInputs:
    """One clip: token ids before and after the slot, frames, and the noise of the merging.

    `frames` is T x height x width x 3, uint8, as `shortest_side_crop` cuts them.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor
    draw: Draw


class ChatUniVi(nn.Module):
    """Tower, merging, projector and language model, in the shapes of the published configurations.

    `llm` is the content of the model's config.json.
    """

    def __init__(self, llm: dict[str, Any], tower: CLIPVisionConfig) -> None:
        super().__init__()
        text = llama_config(llm)
        self.tower = ClipVision(tower, llm["mm_vision_select_layer"])
        self.merging = EventMerging(llm["config"])
        self.projector = nn.Linear(tower.hidden_size, text.hidden_size)
        self.llm = LlamaForCausalLM(text)

    @classmethod
    def load(cls, llm: Path, tower: Path, placement: Placement) -> "ChatUniVi":
        """Read the folders of Chat-UniVi (`llm`) and clip-vit-large-patch14 (`tower`)."""
        config, vision = _read_config(llm), clip_vision_config(tower)
        with weightless():
            model = cls(config, vision)
        tensors = join(
            rename(read_tensors(llm), LLM_KEYS),
            rename(
                read_tensors(tower), clip_keys(vision, config["mm_vision_select_layer"], "tower.")
            ),
        )
        load_strict(model, tensors, placement)
        return model

    def encode(self, frames: Tensor, draw: Draw) -> Tensor:
        """T x height x width x 3, uint8 -> (112 for each event) x the language model's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        patches = self.tower(pixels)[:, 1:]
        projected: Tensor = self.projector(self.merging(patches, draw))
        return projected

    def embed(self, inputs: ChatUniViInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        seen = self.encode(inputs.frames, inputs.draw)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [seen])


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json, unless it is of a relative, which would load and then mean something else."""
    config = read_json(folder)
    merging = config.get("config") or {}
    complete = merging.keys() >= _MINIATURE["config"].keys() and "mm_vision_select_layer" in config
    if not (complete and merging["use_cluster"]):
        raise CheckpointError(
            f"{folder / 'config.json'} does not say how tokens are merged; is it Chat-UniVi's?"
        )
    if config.get("mm_use_im_start_end"):
        raise CheckpointError(
            f"{folder / 'config.json'} wants <im_start> and <im_end> around the video, which the "
            "published Chat-UniVi has not; use that checkpoint"
        )
    return config


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Chat-UniVi with the published files, token counts and context, and small widths.

    Returns the folder of each part of the checkpoint.
    """
    llm, tower = folder / "Chat-UniVi", folder / "clip-vit-large-patch14"
    write_clip_miniature(tower, seed)
    with weightless():
        model = ChatUniVi(_MINIATURE, clip_vision_config(tower))
    trained = {
        name: tensor
        for name, tensor in random_tensors(model, seed).items()
        if not name.startswith("tower.")
    }
    tensors = publish(trained, _PUBLISHED)
    # The published shards hold the tower as well, which loading ignores.
    copied = "model.vision_tower.vision_tower.vision_model.post_layernorm.bias"
    write_llama_miniature(llm, _MINIATURE, tensors | {copied: torch.zeros(32)})
    return {"llm": llm, "tower": tower}
