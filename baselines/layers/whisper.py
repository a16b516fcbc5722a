"""The encoder of Whisper (Radford et al., 2022, arXiv 2212.04356): its keys and its log-mel."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from safetensors.torch import save_file
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.weights import weightless

SAMPLE_RATE = 16000
LONGEST_SECONDS = 30
"""Window of the encoder; shorter sounds are padded with silence."""

WHISPER_KEYS = (
    (r"^(model\.)?decoder\.", None),
    (r"^proj_out\.", None),
    (r"^(model\.)?encoder\.", "whisper."),
)
"""Published names and those of a `WhisperEncoder` called `whisper`."""


def log_mel(waveform: ArrayLike, mel_bins: int) -> Tensor:
    """A mono 16 kHz waveform -> [mel_bins, 3000], float32: cut or filled with silence to 30 s."""
    found = _extractor(mel_bins)(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    mel: Tensor = found.input_features[0]
    return mel


@cache
def _extractor(mel_bins: int) -> WhisperFeatureExtractor:
    # Its defaults are what preprocessor_config.json of whisper-large-v2 and -v3 say; those two
    # differ in the number of bins alone (80 and 128).
    return WhisperFeatureExtractor(feature_size=mel_bins)


_MINIATURE: dict[str, Any] = {
    "model_type": "whisper",
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "max_source_positions": 1500,
}


def write_whisper_miniature(folder: Path, seed: int, mel_bins: int) -> None:
    """A random Whisper with the published files and positions, and small widths."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _MINIATURE | {"num_mel_bins": mel_bins}
    write_json(folder / "config.json", sizes)
    with weightless():
        encoder = WhisperEncoder(WhisperConfig(**sizes))
    tensors = publish(random_tensors(encoder, seed), ((r"^", "model.encoder."),))
    decoder = {"model.decoder.layer_norm.weight": torch.ones(sizes["d_model"])}
    save_file(tensors | decoder, folder / "model.safetensors", metadata={"format": "pt"})
