"""SECap (Xu et al., AAAI 2024, arXiv 2312.10381): speech emotion captioning, in Chinese.

    sound at 16 kHz -> HuBERT-large (Chinese)  -> T x 1024, 50 a second -> Linear -> T x 768
                    -> Q-Former, 32 queries    -> 32 x 768
                    -> Linear                  -> 32 vectors of width 4096
                    -> before the question in the prompt of Chinese-LLaMA-7B

Source: thuhcsi/SECap at 1743904e, `model2.py` (`MotionAudio.inference`). One file holds the weights
of all of it; the folders of the models that it was built from give their sizes and the tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.hubert import HUBERT_NAMES, hubert_config, write_hubert_miniature
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig, published_qformer, qformer_keys
from ovmer.baselines.layers.text2vec import write_text2vec_miniature
from ovmer.baselines.llama import MINI_LLAMA1, llama_config
from ovmer.baselines.miniature import publish, random_tensors, write_json, write_sentencepiece
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, renames, weightless

MODEL_FILE = "model.ckpt"

SHORTEST_SAMPLES = 400
"""Samples of one step of HuBERT: 25 ms."""

_HUBERT_NAMES = [(f"hubert_model.{before}", f"hubert.{now}") for before, now in HUBERT_NAMES]
KEYS = (
    (r"^text2vec_model\.", None),  # for training
    (r"rotary_emb\.inv_freq$", None),  # computed
    (r"^hubert_model\.(masked_spec_embed$|hubert\.masked)", None),  # for training
    (r"position_ids$", None),  # computed
    *renames(_HUBERT_NAMES),
    (r"^hubert_model\.", "hubert."),
    (r"^audio_project\.", "narrowing."),
    *qformer_keys("audio_Qformer.", "qformer."),
    (r"^audio_query_tokens$", "queries"),
    (r"^audio_llama_project\.", "projector."),
    (r"^llama_model\.", "llm."),
)
_PUBLISHED = (
    *renames([(now, before) for before, now in _HUBERT_NAMES]),
    (r"^hubert\.", "hubert_model."),
    (r"^narrowing\.", "audio_project."),
    *published_qformer("qformer.", "audio_Qformer."),
    (r"^queries$", "audio_query_tokens"),
    (r"^projector\.", "audio_llama_project."),
    (r"^llm\.", "llama_model."),
)
_QUERIES = 32
_MINI_BERT: dict[str, Any] = {"model_type": "bert", "num_attention_heads": 4}
_MINI_QFORMER = QFormerConfig(encoder_width=48, layers=3, width=48, heads=4, ffn=64)


@dataclass(frozen=True)
class SecapInputs:
    """One clip: token ids before and after the sound, and the sound.

    `sound` is n samples at 16 kHz, of zero mean and unit variance (`layers.hubert.normalise`).
    """

    texts: Sequence[Sequence[int]]
    sound: Tensor


class Secap(nn.Module):
    """HuBERT, Q-Former and language model."""

    def __init__(
        self, hubert: HubertConfig, qformer: QFormerConfig, llm: LlamaConfig, queries: int
    ) -> None:
        super().__init__()
        self.hubert = HubertModel(hubert)
        self.narrowing = nn.Linear(hubert.hidden_size, qformer.encoder_width)
        self.queries = nn.Parameter(torch.empty(1, queries, qformer.width))
        self.qformer = QFormer(qformer)
        self.projector = nn.Linear(qformer.width, llm.hidden_size)
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls, model: Path, hubert: Path, bert: Path, llm: Path, placement: Placement
    ) -> "Secap":
        """Read model.ckpt; the folders of chinese-hubert-large, bert-base-chinese and
        chinese-llama-7b-merged tell the sizes."""
        model = file_of(model, MODEL_FILE)
        tensors = rename(read_tensors(model), KEYS)
        if "queries" not in tensors:
            raise CheckpointError(
                f"{model} holds no audio_query_tokens; is it SECap's {MODEL_FILE}?"
            )
        heads = read_json(bert).get("num_attention_heads")
        if not isinstance(heads, int):
            raise CheckpointError(
                f"{bert / 'config.json'} lacks num_attention_heads; is it a BERT?"
            )
        with weightless():
            built = cls(
                hubert_config(hubert),
                QFormerConfig.from_tensors(tensors, "qformer.", heads),
                llama_config(read_json(llm)),
                tensors["queries"].sides(3)[1],
            )
        load_strict(built, tensors, placement)
        return built

    def encode(self, sound: Tensor) -> Tensor:
        """n samples -> 32 x the language model's width."""
        states = self.narrowing(self.hubert(sound[None].to(self.queries)).last_hidden_state)
        heard: Tensor = self.projector(self.qformer(self.queries, states))
        return heard[0]

    def embed(self, inputs: SecapInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        heard = self.encode(inputs.sound)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [heard])


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random SECap with the published files, kernels, queries and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    names = (MODEL_FILE, "chinese-hubert-large", "bert-base-chinese", "chinese-llama-7b-merged")
    model, hubert, bert, llm = (folder / name for name in names)
    similarity = folder / "text2vec-base-chinese-paraphrase"
    for part in (bert, llm):
        part.mkdir(parents=True, exist_ok=True)
    write_hubert_miniature(hubert, seed)
    write_text2vec_miniature(similarity, seed)
    write_json(bert / "config.json", _MINI_BERT)
    write_json(llm / "config.json", MINI_LLAMA1)
    write_sentencepiece(llm / "tokenizer.model", MINI_LLAMA1["vocab_size"])
    masking = HubertConfig.from_dict(read_json(hubert))  # with the tensor that masks in training
    with weightless():
        built = Secap(masking, _MINI_QFORMER, llama_config(MINI_LLAMA1), _QUERIES)
    torch.save(_whole(publish(random_tensors(built, seed), _PUBLISHED)), model)
    return {"model": model, "hubert": hubert, "bert": bert, "llm": llm, "similarity": similarity}


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add one tensor for each kind of name that loading ignores."""
    unused = {
        "text2vec_model.embeddings.word_embeddings.weight": torch.zeros(3, 2),
        "audio_Qformer.bert.embeddings.position_ids": torch.arange(4)[None],
        "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8),
    }
    return {**tensors, **unused}
