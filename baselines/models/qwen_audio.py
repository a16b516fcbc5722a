"""Qwen-Audio-Chat (Chu et al., 2023, arXiv 2311.07919).

    sound, at most 30 s -> log-mel, 80 bands, 100 frames a second
        -> Whisper-large-v2's encoder, fine-tuned: 50 frames of width 1280 a second
        -> mean of two, LayerNorm, Linear: 25 vectors of width 4096 a second
        -> between a start and an end vector in the prompt of Qwen-7B

transformers' Whisper encoder insists on 30 seconds and has no pooling; this one runs over as many
frames as there are, so the blocks are transformers' and the way through them is ours. Source:
QwenLM/Qwen-Audio at b50fb95, `audio.py`; frames and tokens are counted in `tokenization_qwen.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, gelu
from transformers import Qwen2ForCausalLM, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.miniature import (
    fuse,
    publish,
    random_tensors,
    write_json,
    write_ranks,
    write_safetensors_shards,
)
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.qwen import FUSED, IGNORED, LLM_NAMES, QwenTokenizer, qwen2_config
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, renames, split, weightless

SAMPLE_RATE = 16000
MAX_SECONDS = 30
HOP = 160
"""Samples from one mel frame to the next."""
MIN_FRAMES = 3
"""Mel frames of the shortest sound that gives a vector; upstream fails on shorter ones."""

AUDIO_NAMES = (
    ("transformer.audio.blocks.*.attn_ln", "audio.blocks.*.self_attn_layer_norm"),
    ("transformer.audio.blocks.*.attn.query", "audio.blocks.*.self_attn.q_proj"),
    ("transformer.audio.blocks.*.attn.key", "audio.blocks.*.self_attn.k_proj"),
    ("transformer.audio.blocks.*.attn.value", "audio.blocks.*.self_attn.v_proj"),
    ("transformer.audio.blocks.*.attn.out", "audio.blocks.*.self_attn.out_proj"),
    ("transformer.audio.blocks.*.mlp_ln", "audio.blocks.*.final_layer_norm"),
    ("transformer.audio.blocks.*.mlp.0", "audio.blocks.*.fc1"),
    ("transformer.audio.blocks.*.mlp.2", "audio.blocks.*.fc2"),
    ("transformer.audio", "audio"),
)
"""Published module names and ours; `*` is a layer's number."""

_AUDIO_FIELDS = (
    "n_mels",
    "n_ctx",
    "n_state",
    "n_head",
    "n_layer",
    "output_dim",
    "avg_pool",
    "add_audio_bos_eos_token",
    "audio_start_id",
)
_MINIATURE: dict[str, Any] = {
    "model_type": "qwen",
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "layer_norm_epsilon": 1e-5,
    "rotary_emb_base": 10000,
    "seq_length": 2048,
    "audio": {
        "n_mels": 80,
        "n_ctx": 1500,
        "n_state": 32,
        "n_head": 2,
        "n_layer": 2,
        "output_dim": 32,
        "avg_pool": True,
        "add_audio_bos_eos_token": True,
    },
}


@dataclass(frozen=True)
class QwenAudioInputs:
    """One clip: the prompt's ids before and after the sound, tags left out, and its log-mel."""

    left: Sequence[int]
    mel: Tensor
    right: Sequence[int]


class QwenAudioEncoder(nn.Module):
    """Whisper's encoder over sounds of any length up to its positions, and the way into the LLM.

    `config` is the `audio` section of config.json; names are the published ones.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["n_state"]
        whisper = WhisperConfig(
            d_model=width,
            encoder_attention_heads=config["n_head"],
            encoder_ffn_dim=4 * width,
            attn_implementation="sdpa",
        )
        self.conv1 = nn.Conv1d(config["n_mels"], width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.positional_embedding = nn.Parameter(torch.empty(config["n_ctx"], width))
        self.blocks = nn.ModuleList(WhisperEncoderLayer(whisper) for _ in range(config["n_layer"]))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Linear(width, config["output_dim"])
        self.audio_bos_eos_token = nn.Embedding(2, config["output_dim"])

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel (bands x frames, an even number) -> frames / 4 + 2 vectors of the LLM's width."""
        x = gelu(self.conv1(mel.to(self.conv1.weight)[None]))
        x = gelu(self.conv2(x)).mT
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x, attention_mask=None)
        # Whisper normalises last; here the mean is taken before.
        x = avg_pool1d(x.mT, kernel_size=2).mT
        x = self.proj(self.ln_post(x))[0]
        start, end = self.audio_bos_eos_token.weight[:, None]
        return torch.cat([start, x, end])


class QwenAudio(nn.Module):
    """Audio tower and language model, with the sizes of the published config.json."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.audio = QwenAudioEncoder(config["audio"])
        self.llm = Qwen2ForCausalLM(qwen2_config(config))

    @classmethod
    def load(cls, model: Path, placement: Placement) -> "QwenAudio":
        """Read Qwen-Audio-Chat as published."""
        with weightless():
            built = cls(read_config(model))
        keys = (*IGNORED, *renames(LLM_NAMES), *renames(AUDIO_NAMES))
        tensors = rename(split(read_tensors(model), *FUSED), keys)
        load_strict(built, tensors, placement)
        return built

    def embed(self, inputs: QwenAudioInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip.

        Upstream prompts have the tags `<audio>` and `</audio>` around the sound, whose embeddings
        it overwrites with the tower's start and end vectors.
        """
        words = self.llm.get_input_embeddings()
        return splice(words, [inputs.left, inputs.right], [self.audio(inputs.mel)])


def read_sizes(model: Path) -> PromptSizes:
    """Read the sizes from config.json; the positions of a sound depend on its length."""
    return PromptSizes(qwen2_config(read_config(model)).max_position_embeddings)


def read_config(folder: Path) -> dict[str, Any]:
    """The published config.json. Raises CheckpointError where it is of another model."""
    config = read_json(folder)
    audio = config.get("audio") or {}
    if lost := [key for key in _AUDIO_FIELDS if not audio.get(key)]:
        raise CheckpointError(
            f"config.json in {folder} tells of no audio tower like Qwen-Audio's "
            f"({', '.join(lost)}); is it the right folder?"
        )
    return config


def read_tokenizer(folder: Path) -> QwenTokenizer:
    """The published tokenizer. Raises CheckpointError where it is not the one of config.json."""
    tokenizer = QwenTokenizer(folder / "qwen.tiktoken", AUDIO_TOKENS)
    found, expected = tokenizer.id_of("<audio>"), read_config(folder)["audio"]["audio_start_id"]
    if found != expected:
        raise CheckpointError(
            f"{folder}: qwen.tiktoken puts <audio> at {found} but config.json at {expected}; "
            "fetch both again"
        )
    return tokenizer


def preprocess(sound: NDArray[np.float32]) -> Tensor:
    """Samples at 16 kHz, in -1..1 -> log-mel (80 x frames, float32) of the first 30 seconds.

    Computed over 30 seconds, silence being added at the end, then cut to the frames of the sound
    and made even in number, as upstream does. Less than 30 ms count as 30 ms.
    """
    frames = max(len(sound[: MAX_SECONDS * SAMPLE_RATE]) // HOP, MIN_FRAMES)
    features = _extractor()(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    return features.input_features[0, :, : frames + frames % 2].clone()


def slots(mel: Tensor) -> int:
    """The number of vectors of the tower's output for a log-mel, start and end included."""
    return mel.shape[1] // 4 + 2


@cache
def _extractor() -> WhisperFeatureExtractor:
    """Whisper's own; its filters are those of the published mel_filters.npz."""
    return WhisperFeatureExtractor(feature_size=80)


def _tags(names: str) -> list[str]:
    return [f"<|{name}|>" for name in names.split()]


AUDIO_TOKENS = (
    "[[[AUDIO:modality]]]",
    *_tags("startoftranscript startofanalysis translate transcribe caption keyword"),
    *_tags("unknown en zh de es ko fr ja it zh_tr notimestamps sil timestamps"),
    *(f"<|{hundredths / 100:.2f}|>" for hundredths in range(3001)),  # seconds
    *_tags("caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn"),
    *_tags("startofentityvalue endofentityvalue startofentitytype endofentitytype"),
    *_tags("named_entity_recognition audio_grounding startofword endofword delim"),
    *_tags("emotion_recognition music_description note_analysis pitch"),
    *(f"<|midi_pitch_{pitch}|>" for pitch in range(128)),
    *_tags("velocity"),
    *(f"<|midi_velocity_{velocity}|>" for velocity in range(128)),
    *_tags("sonic instrument speaker_meta song_meta question answer choice scene event"),
    *_tags("vocal_classification speech_understanding scenario action entities speech_edit"),
    "<audio>",
    "</audio>",
)
"""Control tokens in the order of their ids; an answer may hold any, e.g. a time stamp."""


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Qwen-Audio-Chat: the published files, token counts and context, small widths.

    Returns the folder of each part of the checkpoint.
    """
    model = folder / "Qwen-Audio-Chat"
    model.mkdir(parents=True, exist_ok=True)
    write_ranks(model / "qwen.tiktoken")
    tokenizer = QwenTokenizer(model / "qwen.tiktoken", AUDIO_TOKENS)
    config = _MINIATURE | {
        "vocab_size": len(tokenizer) + 6,  # as published, more rows than tokens
        "audio": _MINIATURE["audio"] | {"audio_start_id": tokenizer.id_of("<audio>")},
    }
    write_json(model / "config.json", config)
    np.savez(model / "mel_filters.npz", mel_80=_extractor().mel_filters.T.astype(np.float32))
    with weightless():
        modules = QwenAudio(config)
    published = [(ours, theirs) for theirs, ours in (*LLM_NAMES, *AUDIO_NAMES)]
    tensors = publish(random_tensors(modules, seed), renames(published))
    write_safetensors_shards(model, fuse(tensors, *FUSED), shards=2)
    return {"model": model}
