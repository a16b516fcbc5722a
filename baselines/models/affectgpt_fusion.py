"""How AffectGPT makes one vector, or a few, of many: over time, and of picture and sound.

The paper compares these in its Table 5. "attention" is what the released weights have; it is a
Linear's weights without a softmax. "mean" drops the weights, "qformer" reads the vectors, with a
position added to each, through the learned queries of a Q-Former of two layers.
Source: zeroQiaoba/MERTools at 89120b78, my_affectgpt/models/affectgpt.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ovmer.baselines.layers.qformer import (
    QFormer,
    QFormerConfig,
    published_qformer,
    qformer_keys,
)
from ovmer.baselines.weight_files import Tensors
from ovmer.baselines.weights import Renames, renames

ATTENTION, MEAN, QFORMER = "attention", "mean", "qformer"
KINDS = (ATTENTION, MEAN, QFORMER)

_BERT_BASE = QFormerConfig(encoder_width=0, layers=2, cross_attention_every=1)
_LONGEST = {"video": 32, "audio": 8, "multi": 264}
"""Rows of the tables of positions."""


@dataclass(frozen=True)
class FusionConfig:
    """How vectors over time become `tokens` vectors in the prompt.

    Without a Q-Former there is one vector, repeated `tokens` times.
    """

    kind: str = ATTENTION
    tokens: int = 1
    qformer: QFormerConfig = _BERT_BASE
    """Sizes of the Q-Former; `encoder_width` is replaced by that of the vectors."""


@dataclass(frozen=True)
class FusionConfigs:
    """One for the picture, one for the sound, one for both together ("pre-fusion")."""

    video: FusionConfig = field(default_factory=FusionConfig)
    audio: FusionConfig = field(default_factory=FusionConfig)
    multi: FusionConfig = field(default_factory=FusionConfig)

    @classmethod
    def of(cls, tensors: Tensors, model: Mapping[str, Any]) -> "FusionConfigs":
        """Infer the fusions from renamed tensors; `model` holds the file's own settings, if any.

        Neither the number of tokens without a Q-Former nor that of heads leaves a trace in tensors.
        """
        return cls(*(_stored_fusion(tensors, name, model) for name in ("video", "audio", "multi")))


def _stored_fusion(tensors: Tensors, name: str, model: Mapping[str, Any]) -> FusionConfig:
    queries = tensors.get(f"{name}.queries")
    if queries is not None:
        heads = int(model.get("qformer_heads", _BERT_BASE.heads))
        sizes = QFormerConfig.from_tensors(tensors, f"{name}.qformer.", heads)
        return FusionConfig(QFORMER, queries.sides(3)[1], sizes)
    weighted = name == "multi" or f"{name}.weights.weight" in tensors
    tokens = int(model.get(f"num_{name}_query_token", 1))
    return FusionConfig(ATTENTION if weighted else MEAN, tokens)


class WeightedSum(nn.Module):
    """Vectors, each times the weight that a Linear gives it, summed and projected."""

    def __init__(self, width: int, projected: int, tokens: int = 1) -> None:
        super().__init__()
        self.weights = nn.Linear(width, 1)
        self.projector = nn.Linear(width, projected)
        self.tokens = tokens

    def forward(self, vectors: Tensor) -> Tensor:
        """... x T x width -> ... x tokens x projected."""
        return _repeated(self.projector(self.weights(vectors).mT @ vectors), self.tokens)


class MeanPooling(nn.Module):
    """The mean of vectors over time, projected."""

    def __init__(self, width: int, projected: int, tokens: int = 1) -> None:
        super().__init__()
        self.projector = nn.Linear(width, projected)
        self.tokens = tokens

    def forward(self, vectors: Tensor) -> Tensor:
        """... x T x width -> ... x tokens x projected."""
        return _repeated(self.projector(vectors.mean(dim=-2, keepdim=True)), self.tokens)


class QueryPooling(nn.Module):
    """Learned queries attend to vectors with position embeddings; the result is projected."""

    def __init__(self, width: int, projected: int, fusion: FusionConfig, longest: int) -> None:
        super().__init__()
        sizes = fusion.qformer.reading(width)
        self.positions = nn.Embedding(longest, width)
        self.queries = nn.Parameter(torch.empty(1, fusion.tokens, sizes.width))
        self.qformer = QFormer(sizes)
        self.projector = nn.Linear(sizes.width, projected)

    def read(self, vectors: Tensor) -> Tensor:
        """... x T x width -> ... x tokens x the Q-Former's width."""
        steps = torch.arange(vectors.shape[-2], device=vectors.device)
        states = vectors + self.positions(steps)
        found = self.qformer(self.queries, states.reshape(-1, *states.shape[-2:]))
        return found.reshape(*states.shape[:-2], *found.shape[-2:])

    def forward(self, vectors: Tensor) -> Tensor:
        """... x T x width -> ... x tokens x projected."""
        found: Tensor = self.projector(self.read(vectors))
        return found


class PreFusion(nn.Module):
    """Fuses picture and sound into one vector before the language model."""

    def __init__(self, seen: int, heard: int, projected: int, tokens: int = 1) -> None:
        super().__init__()
        width = max(seen, heard)
        self.video = nn.Linear(seen, width)
        self.audio = nn.Linear(heard, width)
        self.hidden = nn.Linear(2 * width, width)
        self.weights = nn.Linear(width, 2)
        self.projector = nn.Linear(width, projected)
        self.tokens = tokens

    def mix(self, seen: Tensor, heard: Tensor) -> Tensor:
        """... x T x the width of either -> ... x 1 x the wider width."""
        both = torch.stack([self.video(seen.mean(dim=-2)), self.audio(heard.mean(dim=-2))], dim=-2)
        weights: Tensor = self.weights(self.hidden(both.flatten(-2)))
        return weights[..., None, :] @ both

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """... x T x the width of either -> ... x tokens x projected."""
        return _repeated(self.projector(self.mix(seen, heard)), self.tokens)


class QueryPreFusion(QueryPooling):
    """The queries read what was seen and then what was heard, brought to one width."""

    def __init__(self, seen: int, heard: int, projected: int, fusion: FusionConfig) -> None:
        width = max(seen, heard)
        super().__init__(width, projected, fusion, _LONGEST["multi"])
        self.video = nn.Linear(seen, width)
        self.audio = nn.Linear(heard, width)

    def mix(self, seen: Tensor, heard: Tensor) -> Tensor:
        """... x T x the width of either -> ... x tokens x the Q-Former's width."""
        return self.read(torch.cat([self.video(seen), self.audio(heard)], dim=-2))

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:  # type: ignore[override]
        """... x T x the width of either -> ... x tokens x projected."""
        found: Tensor = self.projector(self.mix(seen, heard))
        return found


def over_time(name: str, fusion: FusionConfig, width: int, projected: int) -> nn.Module:
    """The module of a fusion of `video` or `audio` vectors."""
    if fusion.kind == QFORMER:
        return QueryPooling(width, projected, fusion, _LONGEST[name])
    return (WeightedSum if fusion.kind == ATTENTION else MeanPooling)(
        width, projected, fusion.tokens
    )


def pre_fusion(fusion: FusionConfig, seen: int, heard: int, projected: int) -> nn.Module:
    """The module of a fusion of both."""
    if fusion.kind == QFORMER:
        return QueryPreFusion(seen, heard, projected, fusion)
    return PreFusion(seen, heard, projected, fusion.tokens)


def _repeated(vectors: Tensor, tokens: int) -> Tensor:
    return vectors.expand(*vectors.shape[:-2], tokens, vectors.shape[-1])


_QUERIED = (
    ("video_query_tokens", "video.queries"),
    ("video_frame_position_embedding", "video.positions"),
    ("audio_query_tokens", "audio.queries"),
    ("audio_position_embedding", "audio.positions"),
    ("multi_query_tokens", "multi.queries"),
    ("multi_position_embedding", "multi.positions"),
)
"""Published names and ours of what only a Q-Former has."""
_QFORMERS = [(f"{name}_Qformer.", f"{name}.qformer.") for name in ("video", "audio", "multi")]

QUERIED_KEYS: Renames = (
    *(rule for published, here in _QFORMERS for rule in qformer_keys(published, here)),
    *renames(_QUERIED),
)
"""Published keys -> ours."""
PUBLISHED_QUERIED: Renames = (
    *(rule for published, here in _QFORMERS for rule in published_qformer(here, published)),
    *renames([(ours, theirs) for theirs, ours in _QUERIED]),
)
"""The way back."""
