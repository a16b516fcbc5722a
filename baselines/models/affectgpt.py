"""AffectGPT (Lian et al., ICML 2025, arXiv 2501.16566): one vector a modality, one for both.

    8 frames or faces -> CLIP ViT-L/14, projected -> 8 x  768 -> weighted sum -> Linear | one vector
    8 x 2 s of sound  -> HuBERT-large, last four  -> 8 x 1024 -> weighted sum -> Linear | of width
    both, the mean of each ("pre-fusion")         -> 1024     -> weighted sum -> Linear | 3584 each
        -> three slots in the prompt of Qwen2.5-7B-Instruct, adapted by LoRA

No weight is normalised, neither over time nor between modalities: they are what a Linear says.
Source: zeroQiaoba/MERTools at 89120b78, MER2025/MER2025_Track23/my_affectgpt, `affectgpt.py` and
`encoder.py`, with the fusions of the released configurations (all of them "attention").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.hubert import normalise
from ovmer.baselines.lora import LORA_KEYS, merge_lora, take_lora
from ovmer.baselines.models.affectgpt_encoders import (
    PICTURES,
    SOUNDS,
    dtype_of,
    language_model,
    picture_config,
    sound_config,
    words_config,
)
from ovmer.baselines.models.affectgpt_eva_imagebind import EvaConfig
from ovmer.baselines.models.affectgpt_fusion import (
    QFORMER,
    QUERIED_KEYS,
    FusionConfigs,
    over_time,
    pre_fusion,
)
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import read_entry, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, renames, weightless

SECONDS = 2
"""Length of a stretch of sound."""

LORA_ALPHA = 32
ADAPTED = (
    *(f"self_attn.{letter}_proj" for letter in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)

CONNECTOR_NAMES = (
    ("video_attention_mlp", "video.weights"),
    ("affectgpt_proj", "video.projector"),
    ("audio_attention_mlp", "audio.weights"),
    ("audio_llama_proj", "audio.projector"),
    ("multi_video_embs", "multi.video"),
    ("multi_audio_embs", "multi.audio"),
    ("attention_mlp", "multi.hidden"),
    ("fc_att", "multi.weights"),
    ("multi_llama_proj", "multi.projector"),
    ("llama_model.base_model.model", "llm"),
)
"""Published module names and ours."""
CONNECTOR_KEYS = (
    (r"^image_llama_proj\.", None),  # for still pictures
    (r"(\.position_ids|rotary_emb\.inv_freq)$", None),  # computed; the buffers of frozen modules
    (r"^llama_proj\.", "affectgpt_proj."),  # its name in the code before the release
    *QUERIED_KEYS,
    *renames(CONNECTOR_NAMES),
    *LORA_KEYS,
)


@dataclass(frozen=True)
class AffectGptInputs:
    """One clip: token ids around the slots (two for sound and picture, three with pre-fusion).

    `frames` is 8 x 224 x 224 x 3 (uint8), `sound` 8 x 32000 (8 x 1 x 128 x 204 for ImageBind); None
    where no slot needs them.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor | None
    sound: Tensor | None
    slots: Sequence[str] = ("multi", "audio", "face")
    """In the order of the prompt; of the default as many of the last ones as there are slots."""


class AffectGpt(nn.Module):
    """Two encoders, three ways into the language model, and the language model."""

    def __init__(
        self,
        clip: Any,
        hubert: Any,
        llm: Any,
        fusions: FusionConfigs | None = None,
    ) -> None:
        super().__init__()
        fusions = fusions or FusionConfigs()
        picture, sound = PICTURES[type(clip)], SOUNDS[type(hubert)]
        if isinstance(clip, EvaConfig) and QFORMER in (fusions.video.kind, fusions.multi.kind):
            raise CheckpointError(
                "of EVA-CLIP the mean of 32 vectors a frame is taken, and a Q-Former would read "
                "each; set train.fusion.video and train.fusion.multi to attention"
            )
        seen, heard, width = picture.width(clip), sound.width(hubert), llm.hidden_size
        self._look, self._hear_ready = picture.look, sound.hear
        self.clip = picture.build(clip)
        self.hubert = sound.build(hubert)
        self.video = over_time("video", fusions.video, seen, width)
        self.audio = over_time("audio", fusions.audio, heard, width)
        self.multi = pre_fusion(fusions.multi, seen, heard, width)
        self.llm: Any = language_model(llm)

    @classmethod
    def load(
        cls, trained: Path, llm: Path, clip: Path, hubert: Path, placement: Placement
    ) -> "AffectGpt":
        """Read a released checkpoint_*.pth and the folders of the three models that it adapts."""
        connector = rename(read_tensors(trained, "model"), CONNECTOR_KEYS)
        adapters = take_lora(connector)
        stored = described(trained)
        pictured, heard = picture_config(clip), sound_config(hubert)
        fusions = FusionConfigs.of(connector, stored)
        with weightless():
            model = cls(pictured, heard, words_config(llm), fusions)
        words = rename(read_tensors(llm), ((r"^", "llm."),))
        # Trained without them (Table 8 of the paper), and says so; else their absence is an error.
        adapted = [] if stored.get("frozen_llm") and not adapters else adapted_modules(model.llm)
        tensors = join(
            connector,
            merge_lora(words, adapters, LORA_ALPHA, adapted),
            rename(PICTURES[type(pictured)].read(clip, pictured), ((r"^", "clip."),)),
            rename(SOUNDS[type(heard)].read(hubert, heard), ((r"^", "hubert."),)),
        )
        load_strict(model, tensors, placement)
        return model

    def see(self, frames: Tensor) -> Tensor:
        """8 x 224 x 224 x 3 (uint8) -> 8 x the encoder's width; a CLIP's is its projected one."""
        return self._look(self.clip, frames.to(self.llm.device))

    def hear(self, sound: Tensor) -> Tensor:
        """8 x 32000, or what else the encoder takes -> 8 x its width."""
        return self._hear_ready(self.hubert, sound.to(self.llm.device, dtype_of(self.hubert)))

    def embed(self, inputs: AffectGptInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        count = len(inputs.texts) - 1
        seen = None if inputs.frames is None else self.see(inputs.frames)
        heard = None if inputs.sound is None else self.hear(inputs.sound)
        slots = [
            self._slot(slot, seen, heard) for slot in inputs.slots[len(inputs.slots) - count :]
        ]
        return splice(self.llm.get_input_embeddings(), inputs.texts, slots)

    def _slot(self, slot: str, seen: Tensor | None, heard: Tensor | None) -> Tensor:
        """Vectors for a slot: multi is both in one, audio the sound, all others the picture."""
        vector: Tensor = (
            self.multi(seen, heard)
            if slot == "multi"
            else self.audio(heard)
            if slot == "audio"
            else self.video(seen)
        )
        return vector


def preprocess(
    stretches: NDArray[np.float32], ready: Callable[[Tensor], Tensor] = normalise
) -> Tensor:
    """Stretches of sound (8 x 32000, full scale is 1) -> the same as HuBERT takes them.

    Each loses its own mean, which upstream is a step of ImageBind's; then all are scaled together,
    so that a whisper in a loud clip stays one. `ready` is that of another encoder.
    """
    return ready(centre(torch.from_numpy(stretches)))


def centre(sound: Tensor) -> Tensor:
    """Stretches of sound, each less its own mean; what training normalises over a whole batch."""
    return sound - sound.mean(dim=-1, keepdim=True)


def described(trained: Path, section: str = "model") -> dict[str, Any]:
    """A section of the settings in a checkpoint beside the tensors; empty if there are none."""
    if trained.suffix == ".safetensors":
        return {}
    try:
        found = read_entry(trained, "config").get(section)
    except CheckpointError:
        return {}
    return found if isinstance(found, dict) else {}


def adapted_modules(llm: Any) -> list[str]:
    """The modules that have low-rank adapters."""
    layers = range(llm.config.num_hidden_layers)
    return [f"llm.model.layers.{layer}.{name}" for layer in layers for name in ADAPTED]
