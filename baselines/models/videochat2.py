"""VideoChat2 (Li et al., CVPR 2024, arXiv 2311.17005) with Vicuna, all three stages of training.

    8 frames -> UMT-L/16, last layer but one -> LayerNorm -> 8 x 196 tokens of width 1024
             -> Q-Former: 32 + 64 queries beside a fixed instruction -> 96 x 768
             -> Linear -> 96 vectors of width 4096 in the prompt of Vicuna-7B v0, adapted by LoRA

The Q-Former reads one and the same sentence for every clip; what is asked about the clip reaches
the language model alone. Source: OpenGVLab/Ask-Anything at 4dd8210b, `video_chat2`, in the copy
that the authors of OV-MER ran (`models/videochat2_it.py`, MERTools 89120b78).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig, published_qformer, qformer_keys
from ovmer.baselines.layers.umt_vit import GRID, UmtConfig, UmtVit
from ovmer.baselines.llama import MINI_LLAMA1, llama_config, read_llama, write_llama_miniature
from ovmer.baselines.lora import (
    LORA_KEYS,
    attention_modules,
    merge_lora,
    random_lora,
    take_lora,
)
from ovmer.baselines.miniature import publish, random_tensors
from ovmer.baselines.models.videochat import VideoChatInputs, count_queries
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

STAGE_FILES = ("umt_l16_qformer.pth", "videochat2_7b_stage2.pth", "videochat2_7b_stage3.pth")
"""Files in the order in which the authors' script loads them: later ones override earlier ones."""

# "Watch the video and answer the question." between [CLS] and [SEP], as the vocabulary of
# bert-base-uncased numbers it.
_INSTRUCTION = (101, 3422, 1996, 2678, 1998, 3437, 1996, 3160, 1012, 102)
# By configs/config.json and BERT-base; no file of weights tells them.
_VISION_HEADS, _QFORMER_HEADS = 16, 12
_DEPTH = UmtConfig.layers
"""Blocks of the tower that are looked through; UMT-L has one more, which training may have kept."""
_LORA_ALPHA = 32  # main-video.py; peft's default for LLaMA adapts queries and values

STAGE_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # Of the contrastive first stage.
    (r"^(temp|vision_temp_embed)$", None),
    (r"^(vision_proj|text_proj|itm_head)\.", None),
    (r"^(vision_encoder\.)?clip_decoder\.", None),  # of its masked pictures
    # Vicuna itself, frozen in training, by its names in peft before and since 0.5.
    (r"^llama_model\.(?!.*\.lora_)", None),
    (r"^vision_encoder\.encoder\.", "tower."),
    (r"^vision_layernorm\.", "norm."),
    *qformer_keys("qformer.", "qformer.", reads_text=True),
    (r"^query_tokens$", "queries"),
    (r"^extra_query_tokens$", "extra_queries"),
    (r"^llama_proj\.", "projector."),
    (r"^llama_model\.base_model\.model\.", "llm."),
    *LORA_KEYS,
)

_BLOCK = re.compile(r"tower\.blocks\.(\d+)\.")

_PUBLISHED = (
    (r"^llm\.(.*)\.(lora_[AB])$", r"llama_model.base_model.model.\1.\2.default.weight"),
    (r"^tower\.", "vision_encoder.encoder."),
    (r"^norm\.", "vision_layernorm."),
    *published_qformer("qformer.", "qformer."),
    (r"^queries$", "query_tokens"),
    (r"^extra_queries$", "extra_query_tokens"),
    (r"^projector\.", "llama_proj."),
)
_MINI_TOWER = UmtConfig(width=32, layers=2, heads=_VISION_HEADS, hidden=64, patch=16)
_MINI_QFORMER = QFormerConfig(
    encoder_width=32, layers=2, width=24, heads=_QFORMER_HEADS, ffn=48, vocabulary=4000
)


class VideoChat2(nn.Module):
    """Video tower, Q-Former and language model.

    `queries` are those of the first stage and those that were added for the language model;
    `instruction` are the ids that the Q-Former reads.
    """

    def __init__(
        self,
        tower: UmtConfig,
        qformer: QFormerConfig,
        llm: LlamaConfig,
        queries: tuple[int, int] = (32, 64),
        instruction: Sequence[int] = _INSTRUCTION,
    ) -> None:
        super().__init__()
        self.tower = UmtVit(tower)
        self.norm = nn.LayerNorm(tower.width, eps=1e-12)
        self.queries, self.extra_queries = (
            nn.Parameter(torch.empty(1, count, qformer.width)) for count in queries
        )
        self.qformer = QFormer(qformer)
        self.projector = nn.Linear(qformer.width, llm.hidden_size)
        self.llm = LlamaForCausalLM(llm)
        self._instruction = tuple(instruction)

    @classmethod
    def load(
        cls,
        stages: Path,
        llm: Path,
        placement: Placement,
        instruction: Sequence[int] = _INSTRUCTION,
        vision_heads: int = _VISION_HEADS,
        qformer_heads: int = _QFORMER_HEADS,
    ) -> "VideoChat2":
        """Read the folder of the three stages and that of vicuna-7b-v0, as published.

        The rest is for goldens: the published model has the defaults.
        """
        trained = _read_stages(stages)
        sizes, words = read_llama(llm)
        with weightless():
            model = cls(
                UmtConfig.from_tensors(trained, "tower.", vision_heads),
                QFormerConfig.from_tensors(trained, "qformer.", qformer_heads),
                sizes,
                count_queries(trained, STAGE_FILES),
                instruction,
            )
        merged = merge_lora(words, take_lora(trained), _LORA_ALPHA, _adapted(model.llm.config))
        load_strict(model, trained | merged, placement)
        return model

    def encode(self, frames: Tensor) -> Tensor:
        """T x size x size x 3, uint8 -> 96 x the language model's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        states = self.norm(self.tower(pixels))
        queries = torch.cat([self.queries, self.extra_queries], dim=1)
        instruction = torch.tensor([self._instruction], device=states.device)
        seen: Tensor = self.projector(self.qformer(queries, states[None], instruction))
        return seen[0]

    def embed(self, inputs: VideoChatInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        seen = self.encode(inputs.frames)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [seen])


def read_sizes(stages: Path, llm: Path) -> PromptSizes:
    """Read the sizes from the published files' shapes and the language model's config.json."""
    trained = _read_stages(stages)
    return PromptSizes(
        image=GRID * UmtConfig.from_tensors(trained, "tower.", heads=1).patch,  # whatever they are
        positions=sum(count_queries(trained, STAGE_FILES)),
        context=llama_config(read_json(llm)).max_position_embeddings,
    )


def _read_stages(folder: Path) -> Tensors:
    """The tensors of all stages, each from the last file that has it."""
    tensors: Tensors = {}
    depth = _DEPTH
    for name in reversed(STAGE_FILES):
        stage = rename(read_tensors(file_of(folder, name), "model"), STAGE_KEYS)
        blocks = {int(m[1]) for key in stage if (m := _BLOCK.match(key))}
        # The last file that has the tower says how deep it was trained; earlier ones may hold more.
        depth = min(depth, len(blocks) or depth)
        for key in list(stage):
            if (m := _BLOCK.match(key)) and int(m[1]) >= depth:
                unused = stage.pop(key)
                if unused.origin is not None:
                    unused.origin.unused.append(unused.key)
        tensors = stage | tensors
    return tensors


def _adapted(llm: LlamaConfig) -> list[str]:
    """The modules that have low-rank adapters."""
    return attention_modules("llm", llm.num_hidden_layers, "qv")


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random VideoChat2 with the published files, token counts and context, and small widths.

    Returns the folder of each part of the checkpoint.
    """
    stages, llm = folder / "videochat", folder / "vicuna-7b-v0"
    stages.mkdir(parents=True, exist_ok=True)
    text = llama_config(MINI_LLAMA1)
    with weightless():
        model = VideoChat2(_MINI_TOWER, _MINI_QFORMER, text)
    drawn = random_tensors(model, seed)
    words = {key.removeprefix("llm."): drawn.pop(key) for key in list(drawn) if "llm." in key}
    write_llama_miniature(llm, MINI_LLAMA1, words)
    lora = random_lora(model, _adapted(text), seed)
    _write_stages(stages, publish(drawn, _PUBLISHED), publish(lora, _PUBLISHED))
    return {"stages": stages, "llm": llm}


def _write_stages(folder: Path, trained: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> None:
    """Each stage holds what was trained in it; the earlier ones other values, to be overridden."""
    earlier = {key: tensor + 1 for key, tensor in trained.items()}
    late = ("extra_query_tokens", "llama_proj.weight", "llama_proj.bias")
    first = {key: tensor for key, tensor in earlier.items() if key not in late}
    states = (
        first | {"temp": torch.tensor(0.07)},
        {"model": earlier},
        {"model": {**trained, **lora}},
    )
    for name, state in zip(STAGE_FILES, states, strict=True):
        torch.save(state, folder / name)
