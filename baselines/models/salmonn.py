"""SALMONN (Tang et al., ICLR 2024, arXiv 2310.13289): an LLM with two ears.

    30 s of sound -> Whisper-large-v2 encoder -> LayerNorm -> 1500 x 1280 |
                  -> BEATs                    -> LayerNorm ->   T x  768 | -> 1500 x 2048
        -> 88 windows of 17 steps, 1/3 s each -> Q-Former, one query     -> 88 x 768
        -> Linear -> 88 vectors of width 4096 in the prompt of Vicuna-7B v1.5, adapted by LoRA

Source: the release beside the 7B checkpoint (bytedance/SALMONN, `model.py`), which the authors of
OV-MER ran. Whisper is given 30 s, silence after the end included; BEATs hears the sound alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.beats import BEATS_KEYS, BEATS_SWITCHES, Beats, BeatsConfig, beats_fbank
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig, published_qformer, qformer_keys
from ovmer.baselines.layers.whisper import WHISPER_KEYS, log_mel, write_whisper_miniature
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, read_llama, write_llama_miniature
from ovmer.baselines.lora import (
    LORA_KEYS,
    attention_modules,
    merge_lora,
    random_lora,
    take_lora,
)
from ovmer.baselines.miniature import of_file, publish, random_tensors
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_entry, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

CONNECTOR_FILE = "salmonn_7b_v0.pth"
BEATS_FILE = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"

LONGEST_SECONDS = 30
# One query hears a third of a second (`second_per_frame`, written with six digits upstream).
_WINDOW_SECONDS = 0.333333
_LORA_ALPHA = 32

CONNECTOR_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # Frozen weights, read from files of their own. Upstream leaves them out when it saves, but of a
    # table that all layers of BEATs share it finds the first name only (runner.py,
    # `named_parameters`), and eleven others stay.
    (r"^(beats|speech_encoder)\.", None),
    (r"^llama_model\.(?!.*\.lora_)", None),
    *qformer_keys("speech_Qformer.", "qformer."),
    (r"^speech_query_tokens$", "queries"),
    (r"^speech_llama_proj\.", "projector."),
    (r"^llama_model\.base_model\.model\.", "llm."),
    *LORA_KEYS,
)
BEATS_IN_SALMONN = (*BEATS_KEYS, (r"^", "beats."))

# The way back, for miniatures: file/key.
_PUBLISHED = (
    (r"^llm\.(.*)\.(lora_[AB])$", r"connector/llama_model.base_model.model.\1.\2.default.weight"),
    (r"^llm\.", "llm/"),
    (r"^whisper\.", None),
    (r"^beats\.", "beats/"),
    (r"^queries$", "connector/speech_query_tokens"),
    *published_qformer("qformer.", "connector/speech_Qformer."),
    (r"^projector\.", "connector/speech_llama_proj."),
    (r"^ln_", "connector/ln_"),
)
_MINI_BEATS = BeatsConfig(
    embed_dim=16,
    encoder_embed_dim=32,
    encoder_ffn_embed_dim=64,
    encoder_attention_heads=2,
    encoder_layers=2,
)
_MINI_QFORMER = QFormerConfig(
    encoder_width=64, layers=2, cross_attention_every=1, width=48, heads=12, ffn=64
)


@dataclass(frozen=True)
class SalmonnInputs:
    """One clip: token ids before and after the sound, and the sound as the two encoders want it.

    `mel` is 80 x 3000 (Whisper), `fbank` is frames x 128 (BEATs).
    """

    texts: Sequence[Sequence[int]]
    mel: Tensor
    fbank: Tensor


@dataclass(frozen=True)
class SalmonnSizes(PromptSizes):
    """Sizes with the number of mel bins of Whisper."""

    mel_bins: int = field(kw_only=True)


def read_sizes(llm: Path, whisper: Path) -> SalmonnSizes:
    """Read the sizes from the two config.json files of the published checkpoint."""
    audio = WhisperConfig(**read_json(whisper))
    return SalmonnSizes(
        context=llama_config(read_json(llm)).max_position_embeddings,
        positions=audio.max_source_positions // _steps_per_window(audio.max_source_positions),
        mel_bins=audio.num_mel_bins,
    )


class Salmonn(nn.Module):
    """Two encoders, the windowed Q-Former between them and the language model."""

    def __init__(
        self,
        whisper: WhisperConfig,
        beats: BeatsConfig,
        qformer: QFormerConfig,
        llm: LlamaConfig,
    ) -> None:
        super().__init__()
        self.whisper = WhisperEncoder(whisper)
        self.beats = Beats(beats)
        self.ln_speech = nn.LayerNorm(whisper.d_model)
        self.ln_audio = nn.LayerNorm(beats.encoder_embed_dim)
        self.queries = nn.Parameter(torch.empty(1, 1, qformer.width))
        self.qformer = QFormer(qformer)
        self.projector = nn.Linear(qformer.width, llm.hidden_size)
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        connector: Path,
        llm: Path,
        whisper: Path,
        beats: Path,
        heads: int,
        placement: Placement,
    ) -> "Salmonn":
        """Read the four parts as published; `heads` of the Q-Former is in none of them.

        Parts: salmonn_7b_v0.pth, the folders of vicuna-7b-v1.5 and whisper-large-v2, and
        BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt.
        """
        connector, beats = file_of(connector, CONNECTOR_FILE), file_of(beats, BEATS_FILE)
        trained = rename(read_tensors(connector, "model"), CONNECTOR_KEYS)
        sizes, words = read_llama(llm)
        with weightless():
            model = cls(
                WhisperConfig(**read_json(whisper)),
                BeatsConfig.from_file(read_entry(beats, "cfg")),
                QFormerConfig.from_tensors(trained, "qformer.", heads),
                sizes,
            )
        merged = merge_lora(words, take_lora(trained), _LORA_ALPHA, _adapted(model.llm.config))
        tensors = join(
            trained,
            merged,
            rename(read_tensors(whisper), WHISPER_KEYS),
            rename(read_tensors(beats, "model"), BEATS_IN_SALMONN),
        )
        load_strict(model, tensors, placement)
        return model

    def hear(self, mel: Tensor, fbank: Tensor) -> Tensor:
        """80 x 3000 and frames x 128 -> what was heard, as 88 windows x 17 steps x 2048."""
        speech = self.ln_speech(self.whisper(mel[None]).last_hidden_state[0])
        sound = self.ln_audio(self.beats(fbank[None])[0])
        steps = len(speech)
        # After the norm, so that the silence beyond the end is zero and not the norm's bias.
        sound = F.pad(sound, (0, 0, 0, steps - len(sound)))
        window = _steps_per_window(steps)
        count = steps // window  # the last few steps fill no window
        return torch.cat([speech, sound], dim=-1)[: count * window].unflatten(0, (count, window))

    def encode(self, mel: Tensor, fbank: Tensor) -> Tensor:
        """The same -> 88 x the language model's width."""
        device = self.queries
        windows = self.hear(mel.to(device), fbank.to(device))
        heard: Tensor = self.projector(self.qformer(self.queries, windows))
        return heard.flatten(0, 1)

    def embed(self, inputs: SalmonnInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        heard = self.encode(inputs.mel, inputs.fbank)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [heard])


def _steps_per_window(steps: int) -> int:
    return round(steps * _WINDOW_SECONDS / LONGEST_SECONDS)


def _adapted(llm: LlamaConfig) -> list[str]:
    """The modules that have low-rank adapters."""
    return attention_modules("llm", llm.num_hidden_layers, "qv")


def preprocess(waveform: ArrayLike, mel_bins: int = 80) -> tuple[Tensor, Tensor]:
    """A mono 16 kHz waveform of at most 30 s -> Whisper's picture of it and that of BEATs.

    [mel_bins, 3000], filled up with silence, and [frames, 128]; both float32.
    """
    return log_mel(waveform, mel_bins), torch.from_numpy(beats_fbank(waveform)).float()


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random SALMONN with the published files, windows and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    names = ("vicuna-7b-v1.5", "whisper-large-v2", CONNECTOR_FILE, BEATS_FILE)
    llm, whisper, connector, beats = (folder / name for name in names)
    write_whisper_miniature(whisper, seed, mel_bins=80)
    with weightless():
        model = Salmonn(
            WhisperConfig(**read_json(whisper)),
            _MINI_BEATS,
            _MINI_QFORMER,
            llama_config(MINI_LLAMA2),
        )
    lora = random_lora(model, _adapted(model.llm.config), seed)
    tensors = publish(random_tensors(model, seed) | lora, _PUBLISHED)
    write_llama_miniature(llm, MINI_LLAMA2, of_file("llm", tensors))
    sound = of_file("beats", tensors)
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    copy = {table.format(1): sound[table.format(0)]}
    cfg = asdict(_MINI_BEATS) | BEATS_SWITCHES
    torch.save({"cfg": cfg, "model": sound | copy}, beats)
    shared = {f"beats.{table.format(1)}": sound[table.format(0)]}
    torch.save({"model": of_file("connector", tensors) | shared}, connector)
    return {"llm": llm, "whisper": whisper, "connector": connector, "beats": beats}
