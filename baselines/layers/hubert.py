"""HuBERT (Hsu et al., 2021, arXiv 2106.07447), for which transformers' HubertModel is exact.

Code shared by models built on it: its files, and the preprocessing of sound.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.weights import ForeignTensor, Renames, renames, weightless

SAMPLE_RATE = 16000

_CONV = "encoder.pos_conv_embed.conv"
HUBERT_NAMES = (
    (f"{_CONV}.weight_g", f"{_CONV}.parametrizations.weight.original0"),
    (f"{_CONV}.weight_v", f"{_CONV}.parametrizations.weight.original1"),
)
"""Weight normalisation as torch wrote it before release 2.1, and as it does now."""

HUBERT_KEYS: Renames = (
    (
        r"^lm_head\.",
        ForeignTensor("it is of a HuBERT that was trained further, to write down what is said"),
    ),
    (r"^hubert\.", ""),  # as a part of transformers' larger classes
    (r"^masked_spec_embed$", None),  # for training
    *renames(HUBERT_NAMES),
)
"""The file of chinese-hubert-large -> a HubertModel as `hubert_config` has it."""

# Of Wav2Vec2FeatureExtractor (`do_normalize`), inside the root.
_EPSILON = 1e-7
_MINIATURE: dict[str, Any] = {
    "model_type": "hubert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "conv_dim": [16] * 7,
    "conv_bias": False,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "feat_proj_dropout": 0.0,
}


def hubert_config(folder: Path) -> HubertConfig:
    """The published config.json, e.g. of chinese-hubert-large, without what masks in training."""
    unmasked = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    config: HubertConfig = HubertConfig.from_dict(read_json(folder) | unmasked)
    return config


def normalise(samples: Tensor) -> Tensor:
    """Zero mean and unit variance over all of `samples`, of whatever shape, at 16 kHz."""
    variance, mean = torch.var_mean(samples, correction=0)
    return (samples - mean) / (variance + _EPSILON).sqrt()


def write_hubert_miniature(folder: Path, seed: int, **sizes: int) -> None:
    """A random HuBERT with the published files, kernels and strides, and small widths.

    `sizes` are fields of config.json that differ from those of the other miniatures.
    """
    config = _MINIATURE | sizes
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    with weightless():
        model = HubertModel(HubertConfig.from_dict(config))
    back = [(now, before) for before, now in HUBERT_NAMES]
    torch.save(publish(random_tensors(model, seed), renames(back)), folder / "pytorch_model.bin")
