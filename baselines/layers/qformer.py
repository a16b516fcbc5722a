"""The BLIP-2 Q-Former: learned queries that read an encoder's states through cross-attention.

A BERT (post-norm) in which every n-th layer has a cross-attention between self-attention and
feed-forward. Two kinds are published: with queries alone (BLIP-2 and most of its heirs), and with
text tokens beside the queries (InstructBLIP: VideoChat2, LLaMA-VID). transformers has both; this
file gives them one face, and says how the published keys map onto them.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
)

from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import ForeignTensor, Renames, check_heads

_CROSS_KEY = "crossattention.attention.key.weight"
_FFN = "intermediate_query.dense.weight"
_TABLES = ("word", "position")

BLIP2_FILE = "blip2_pretrained_flant5xxl.pth"


@dataclass(frozen=True)
class QFormerConfig:
    """Sizes; the defaults are BERT-base as BLIP-2 has it."""

    encoder_width: int
    layers: int = 12
    cross_attention_every: int = 2
    width: int = 768
    heads: int = 12
    ffn: int = 3072
    vocabulary: int | None = None
    """Number of word embeddings if text is given with the queries, else None."""
    positions: int = 512
    """Longest text, in tokens."""

    def reading(self, width: int) -> "QFormerConfig":
        """The same sizes for an encoder whose states have another width."""
        return replace(self, encoder_width=width)

    @classmethod
    def from_tensors(cls, tensors: Tensors, here: str, heads: int = 12) -> "QFormerConfig":
        """The sizes that the shapes of renamed tensors tell; it reads text where they hold words.

        The number of heads leaves no trace in them. Raises CheckpointError where there is none.
        """
        layer = re.compile(re.escape(f"{here}bert.encoder.layer.") + r"(\d+)\.(.*)")
        found = {m.groups(): tensors[key] for key in tensors if (m := layer.fullmatch(key))}
        crossed = sorted(int(number) for number, name in found if name == _CROSS_KEY)
        if ("0", _CROSS_KEY) not in found or ("0", _FFN) not in found:
            raise CheckpointError(
                "the checkpoint has no Q-Former of BLIP-2's kind; is it the right file?"
            )
        layers = 1 + max(int(number) for number, _ in found)
        width, encoder_width = found["0", _CROSS_KEY].sides(2)
        check_heads(found["0", _CROSS_KEY], width, heads)
        every = crossed[1] if len(crossed) > 1 else layers
        ffn = found["0", _FFN].sides(2)[0]
        tables = [f"{here}bert.embeddings.{kind}_embeddings.weight" for kind in _TABLES]
        words, positions = (tensors[key].sides(2)[0] if key in tensors else None for key in tables)
        if words is None or positions is None:
            return cls(encoder_width, layers, every, width, heads, ffn)
        return cls(encoder_width, layers, every, width, heads, ffn, words, positions)


class QFormer(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "encoder_hidden_size": config.encoder_width,
            "num_hidden_layers": config.layers,
            "cross_attention_frequency": config.cross_attention_every,
            "hidden_size": config.width,
            "num_attention_heads": config.heads,
            "intermediate_size": config.ffn,
            "layer_norm_eps": 1e-12,
        }
        self._reads_text = config.vocabulary is not None
        if self._reads_text:
            sizes |= {
                "vocab_size": config.vocabulary,
                "max_position_embeddings": config.positions,
            }
            self.bert = InstructBlipQFormerModel(InstructBlipQFormerConfig(**sizes))
        else:
            self.bert = Blip2QFormerModel(Blip2QFormerConfig(**sizes))

    def forward(self, queries: Tensor, states: Tensor, text: Tensor | None = None) -> Tensor:
        """Returns the queries' outputs, [batch, n, width].

        queries [1, n, width] are the same for all of the batch; states are [batch, time,
        encoder_width]; text [batch, words] are ids without padding, where the model reads text.
        """
        asked: dict[str, Any] = {
            "query_embeds": queries.expand(len(states), -1, -1),
            "encoder_hidden_states": states,
        }
        if self._reads_text:
            asked["input_ids"] = text
        found: Tensor = self.bert(**asked).last_hidden_state
        return found[:, : queries.shape[1]]


def qformer_keys(published: str, here: str, reads_text: bool = False) -> Renames:
    """Renames for a Q-Former stored under `published` (such as "Qformer.") and built as `here`.

    Files keep buffers of BERT, and some the text half of a Q-Former that only ever gets queries;
    both are known and not used.
    """
    old = "^" + re.escape(published)
    text_half = (
        (rf"{old}bert\.embeddings\.(word|position)_embeddings\.", None),
        (rf"{old}bert\.encoder\.layer\.\d+\.(intermediate|output)\.", None),
    )
    norm = "embeddings.layernorm" if reads_text else "layernorm"
    return (
        (rf"{old}cls\.", None),
        (rf"{old}bert\.embeddings\.position_ids$", None),
        *(() if reads_text else text_half),
        (rf"{old}bert\.embeddings\.LayerNorm\.", f"{here}bert.{norm}."),
        (rf"{old}(bert\..*attention)\.self\.", rf"{here}\1.attention."),
        (rf"{old}", here),
    )


_T5_XL = 2048
"""Width of Flan-T5-xl; that of xxl is twice as much."""


def read_blip2(file: Path) -> Tensors:
    """The tensors of BLIP2_FILE, or of the folder that holds it, under their published names.

    Raises CheckpointError where it is the file of a smaller Flan-T5.
    """
    tensors = read_tensors(file_of(file, BLIP2_FILE), "model")
    into = tensors.get("t5_proj.weight")
    if into is not None and into.sides(2)[0] == _T5_XL:
        raise CheckpointError(
            f"{into.source} has {_T5_XL} rows: it is the BLIP-2 of Flan-T5-xl, whose Q-Former is "
            f"another; get {BLIP2_FILE}"
        )
    return tensors


BLIP2_KEYS: Renames = (
    (r"^visual_encoder\.(?!gmhra)", None),  # frozen in training: a copy of the tower
    (r"^t5_model\.", None),  # likewise
    (
        r"^((vision_proj|text_proj|itm_head)\.|temp$)",
        ForeignTensor("it is of BLIP-2's first stage, before the Q-Former met a language model"),
    ),
    (
        r"^(opt|llm)_proj\.",
        ForeignTensor("it is of a BLIP-2 with another language model than Flan-T5"),
    ),
    *qformer_keys("Qformer.", "qformer."),
    (r"^query_tokens$", "queries"),
    (r"^t5_proj\.", None),  # to the language model of BLIP-2
)
"""BLIP2_FILE (its entry `model`) -> `qformer`, `queries` and `ln_vision`, the norm before them."""


def published_qformer(here: str, published: str) -> Renames:
    """The way back, for miniatures."""
    new = "^" + re.escape(here)
    return (
        (rf"{new}bert\.(embeddings\.)?layernorm\.", f"{published}bert.embeddings.LayerNorm."),
        (rf"{new}(bert\..*attention)\.attention\.", rf"{published}\1.self."),
        (new, published),
    )
