"""Sentence similarity by the vectors of a BERT.

The model is shibing624/text2vec-base-chinese-paraphrase (CoSENT, Su, 2022), whose vectors are the
means over all tokens of a sentence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.miniature import CORPUS, random_tensors, write_json, write_wordpieces
from ovmer.baselines.tokenizer import BertTokenizer
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

# The file is an ERNIE's, which SECap's code reads as a BERT's: without the embedding of tasks.
KEYS = (
    (r"^(bert|ernie)\.", ""),
    (r"^embeddings\.(position_ids|token_type_ids)$", None),  # computed
    (r"^embeddings\.task_type_embeddings\.", None),
    (r"^pooler\.", None),
    (r"^", "bert."),
)
_MINIATURE: dict[str, Any] = {
    "model_type": "ernie",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "type_vocab_size": 4,
    "task_type_vocab_size": 3,
    "use_task_id": True,
}


class Text2Vec(nn.Module):
    def __init__(self, config: BertConfig, tokenizer: BertTokenizer) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self._tokenizer = tokenizer
        self._longest = config.max_position_embeddings

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> "Text2Vec":
        """Read config.json, vocab.txt and the weights of a published folder."""
        config = BertConfig(**(read_json(folder) | {"model_type": "bert"}))
        with weightless():
            model = cls(config, BertTokenizer(folder / "vocab.txt"))
        load_strict(model, rename(read_tensors(folder), KEYS), placement)
        return model

    @torch.inference_mode()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """A unit vector for each sentence, n x width."""
        means = []
        for sentence in sentences:
            ids = torch.tensor([self._tokenizer.encode(sentence, self._longest)])
            states = self.bert(ids.to(self.bert.device)).last_hidden_state
            means.append(states[0].float().mean(dim=0))
        return normalize(torch.stack(means))


def most_alike(vectors: Tensor, count: int) -> list[int]:
    """The `count` of n unit vectors (n x width) with the largest mean cosine to all, in order."""
    mean = (vectors @ vectors.T).mean(dim=1).cpu().numpy()
    return sorted(np.argsort(mean)[len(mean) - count :].tolist())


def write_text2vec_miniature(folder: Path, seed: int, text: str = CORPUS) -> None:
    """A random model with the published files and small widths."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _MINIATURE | {"vocab_size": write_wordpieces(folder / "vocab.txt", text)}
    write_json(folder / "config.json", sizes)
    with weightless():
        model = BertModel(BertConfig(**(sizes | {"model_type": "bert"})))
    tensors = random_tensors(model, seed)
    tensors["embeddings.task_type_embeddings.weight"] = torch.zeros(3, sizes["hidden_size"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
