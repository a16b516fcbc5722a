"""LLaMA-VID (Li, Wang and Jia, ECCV 2024, arXiv 2311.17043), 7B: two vectors for a frame.

    frame -> EVA-ViT-g -> a class token and 256 patches, of width 1408

    context: the question and 32 queries -> Q-Former, which attends to all 257 tokens -> 32 x 768
             -> Linear: 32 queries over the patches; what they find, averaged       ->  1 x 1408
             -> Linear                                                              ->  1 x 4096
    content: the mean of the patches -> Linear, GELU, Linear                        ->  1 x 4096

    context, content of each frame in turn -> one slot in the prompt of Vicuna-7B v1.5

What the model sees thus depends on what it is asked. Source: dvlab-research/LLaMA-VID at b3d3ae2b,
`llamavid/model/llamavid_arch.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.eva_vit import (
    EVA_FILE,
    EVA_HEADS,
    EvaVit,
    eva_image_size,
    read_eva,
    write_eva_miniature,
)
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig, published_qformer, qformer_keys
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, write_llama_miniature
from ovmer.baselines.miniature import publish, random_tensors, write_json, write_wordpieces
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

LONGEST_QUESTION = 256
"""Tokens of the question that the Q-Former reads; a longer one loses its start."""

POSITIONS = 2
"""Prompt positions that a frame takes."""

LLM_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # A copy of the tower. As upstream does, the tower is read from its own file.
    (r"^model\.vision_tower\.", None),
    *qformer_keys("model.vlm_att_encoder.", "context.qformer.", reads_text=True),
    (r"^model\.vlm_att_query$", "context.queries"),
    (r"^model\.vlm_att_ln\.", "context.norm."),
    (r"^model\.vlm_att_projector\.", "context.query."),
    (r"^model\.vlm_att_key_projector\.", "context.key."),
    (r"^model\.vlm_att_val_projector\.", "context.value."),
    (r"^model\.mm_projector\.", "content."),
    (r"^(model|lm_head)\.", r"llm.\1."),
)
_PUBLISHED = (
    (r"^llm\.", ""),
    *published_qformer("context.qformer.", "model.vlm_att_encoder."),
    (r"^context\.queries$", "model.vlm_att_query"),
    (r"^context\.norm\.", "model.vlm_att_ln."),
    (r"^context\.query\.", "model.vlm_att_projector."),
    (r"^context\.key\.", "model.vlm_att_key_projector."),
    (r"^context\.value\.", "model.vlm_att_val_projector."),
    (r"^content\.", "model.mm_projector."),
)
# What config.json says of the parts that are built here; other values mean other models.
_BUILT: Mapping[str, Any] = {
    "bert_type": "qformer_pretrain",
    "compress_type": "mean",
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
}
_MINI_LLM: dict[str, Any] = {
    **MINI_LLAMA2,
    "model_type": "llava",
    **_BUILT,
}
_MINI_BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
}


@dataclass(frozen=True)
class LlamaVidInputs:
    """One clip: token ids before and after the video, what the Q-Former reads, and the frames.

    `question` are ids of BERT, at most LONGEST_QUESTION with [CLS] and [SEP]; `frames` is
    T x size x size x 3, uint8.
    """

    texts: Sequence[Sequence[int]]
    question: Sequence[int]
    frames: Tensor


def read_sizes(llm: Path, vision: Path) -> PromptSizes:
    """Read the sizes from config.json and from the shapes in the tower's file."""
    context = llama_config(read_json(llm)).max_position_embeddings
    return PromptSizes(context, POSITIONS, eva_image_size(vision))


class ContextAttention(nn.Module):
    """Pools a frame into one vector by attention from the question."""

    def __init__(self, seen: int, qformer: QFormerConfig, queries: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(seen)
        self.queries = nn.Parameter(torch.empty(1, queries, qformer.width))
        self.qformer = QFormer(qformer)
        self.query = nn.Linear(qformer.width, seen)
        self.key = nn.Linear(seen, seen)
        self.value = nn.Linear(seen, width)

    def forward(self, tokens: Tensor, question: Tensor) -> Tensor:
        """tokens [T, 1 + patches, seen], question [words] -> [T, width]."""
        patches = tokens[:, 1:]
        questions = question.expand(len(tokens), -1)
        asked = self.query(self.qformer(self.queries, self.norm(tokens), questions))
        # Keys are projected, but the values are the patches themselves: the value projection
        # comes after the average over the queries.
        scores = asked @ self.key(patches).transpose(1, 2) / patches.shape[-1] ** 0.5
        found = (scores.softmax(dim=-1) @ patches).mean(dim=1)
        context: Tensor = self.value(found)
        return context


class LlamaVid(nn.Module):
    """Tower, the two ways from a frame to a vector, and language model."""

    def __init__(
        self, vision: Blip2VisionConfig, qformer: QFormerConfig, queries: int, llm: LlamaConfig
    ) -> None:
        super().__init__()
        seen, width = vision.hidden_size, llm.hidden_size
        self.tower = EvaVit(vision)
        self.context = ContextAttention(seen, qformer, queries, width)
        self.content = nn.Sequential(nn.Linear(seen, width), nn.GELU(), nn.Linear(width, width))
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        llm: Path,
        vision: Path,
        bert: Path,
        placement: Placement,
        *,
        vit_heads: int = EVA_HEADS,
    ) -> "LlamaVid":
        """Read the folder of llama-vid-7b-full-224-video-fps-1, eva_vit_g.pth and, for the number
        of heads of the Q-Former, the folder of bert-base-uncased."""
        config = _check(read_json(llm), llm)
        seen, tower = read_eva(vision, "tower.", vit_heads)
        tensors = rename(read_tensors(llm), LLM_KEYS)
        if "context.queries" not in tensors:
            raise CheckpointError(f"{llm} holds no model.vlm_att_query; is it a LLaMA-VID?")
        heads = read_json(bert)["num_attention_heads"]
        with weightless():
            model = cls(
                seen,
                QFormerConfig.from_tensors(tensors, "context.qformer.", heads),
                tensors["context.queries"].sides(3)[1],
                llama_config(config),
            )
        load_strict(model, join(tower, tensors), placement)
        return model

    def encode(self, frames: Tensor, question: Tensor) -> Tensor:
        """T x size x size x 3, uint8, and ids -> 2 T x the language model's width."""
        tokens = self.tower(normalise(frames).to(self.llm.dtype))
        context, content = self.context(tokens, question), self.content(tokens[:, 1:].mean(dim=1))
        return torch.stack([context, content], dim=1).flatten(0, 1)

    def embed(self, inputs: LlamaVidInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        device = self.llm.device
        question = torch.tensor(inputs.question, device=device)
        video = self.encode(inputs.frames.to(device), question)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [video])


def _check(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config itself. Raises CheckpointError where it tells of parts that are not built here."""
    for name, built in _BUILT.items():
        found = config.get(name, built)
        if found is None and built is False:
            found = False
        if name == "bert_type":
            found = str(found)[: len(str(built))]  # the rest names the parts that were trained
        if found != built:
            raise CheckpointError(
                f"config.json of {folder} has {name}={found!r} where {built!r} is known; is it "
                "llama-vid-7b-full-224-video-fps-1?"
            )
    return config


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random LLaMA-VID with the published files, token counts and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    llm, bert = folder / "llama-vid-7b-full-224-video-fps-1", folder / "bert-base-uncased"
    vision = folder / EVA_FILE
    bert.mkdir(parents=True, exist_ok=True)
    write_eva_miniature(vision, seed)
    pieces = write_wordpieces(bert / "vocab.txt")
    write_json(bert / "config.json", _MINI_BERT | {"vocab_size": pieces})
    seen, _ = read_eva(vision, "")
    qformer = QFormerConfig(
        encoder_width=seen.hidden_size,
        layers=_MINI_BERT["num_hidden_layers"],
        width=_MINI_BERT["hidden_size"],
        heads=_MINI_BERT["num_attention_heads"],
        ffn=_MINI_BERT["intermediate_size"],
        vocabulary=pieces + 1,  # the published table has a row for [DEC], which is never read
    )
    with weightless():
        model = LlamaVid(seen, qformer, 32, llama_config(_MINI_LLM))
    drawn = random_tensors(model, seed)
    tensors = publish({k: v for k, v in drawn.items() if not k.startswith("tower.")}, _PUBLISHED)
    copy = {"model.vision_tower.vision_tower.cls_token": drawn["tower.embeddings.class_embedding"]}
    write_llama_miniature(llm, _MINI_LLM, tensors | copy)
    return {"llm": llm, "vision": vision, "bert": bert}
