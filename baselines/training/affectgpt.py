"""AffectGPT in training, as its authors' runner trains it; their names in all files.

What differs from inference: adapters are not merged; HuBERT may run in train mode, which upstream
does by accident (dropout, layers left out, a fifth of the sound masked); sound is normalised over
the whole batch. `image_llama_proj`, for still pictures, is carried along: it never gets a gradient
from clips, but the authors' files hold it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ovmer.baselines.device import Placement
from ovmer.baselines.layers.imagebind import ImageBindAudio
from ovmer.baselines.miniature import publish
from ovmer.baselines.models.affectgpt import (
    ADAPTED,
    CONNECTOR_NAMES,
    LORA_ALPHA,
    AffectGpt,
)
from ovmer.baselines.models.affectgpt_encoders import (
    PICTURES,
    SOUNDS,
    picture_config,
    sound_config,
    words_config,
)
from ovmer.baselines.models.affectgpt_eva_imagebind import EvaConfig, drop_paths, random_crop
from ovmer.baselines.models.affectgpt_fusion import (
    PUBLISHED_QUERIED,
    QUERIED_KEYS,
    FusionConfigs,
    QueryPooling,
)
from ovmer.baselines.splice import splice
from ovmer.baselines.training.lora import Lora, attach, fill, trained
from ovmer.baselines.weight_files import LazyTensor, read_tensors
from ovmer.baselines.weights import Renames, load_strict, rename, renames, weightless

FACE, FRAME, AUDIO, MULTI = "face", "frame", "audio", "multi"
"""Kinds of slots in a prompt."""

_NAMES = (("image_llama_proj", "image"), *CONNECTOR_NAMES)
TRAINED_KEYS: Renames = (
    (r"(\.position_ids|rotary_emb\.inv_freq)$", None),
    (r"^llama_proj\.", "affectgpt_proj."),
    *QUERIED_KEYS,
    *renames(_NAMES),
    (r"\.(lora_[AB])\.weight$", r".\1.default.weight"),  # as peft before 0.3 wrote it
)
"""The authors' names -> those of `AffectGptInTraining`."""
PUBLISHED: Renames = (*PUBLISHED_QUERIED, *renames([(ours, theirs) for theirs, ours in _NAMES]))
"""The way back."""


@dataclass(frozen=True)
class TrainingInputs:
    """One clip as training reads it.

    `texts` are token ids around `slots`. `media` holds 8 x 224 x 224 x 3 (uint8) under face and
    frame, 8 x 32000 (each stretch less its mean) under audio; or, with `encoded`, what the encoders
    made of them. `multi` is the picture that pre-fusion takes: face or frame.
    """

    texts: Sequence[Sequence[int]]
    slots: Sequence[str]
    media: Mapping[str, Tensor]
    multi: str = FACE
    encoded: bool = False


@dataclass(frozen=True)
class FrozenPrecision:
    """Types of the frozen weights; what is trained is always float32."""

    llm: torch.dtype = torch.float32
    encoders: torch.dtype = torch.float32


LORA_TARGETS = tuple(name.rpartition(".")[2] for name in ADAPTED)


@dataclass(frozen=True)
class AffectGptDesign:
    """Architecture choices; the defaults are those of the released runs."""

    fusions: FusionConfigs = field(default_factory=FusionConfigs)
    lora: Lora | None = field(default_factory=lambda: Lora(16, LORA_ALPHA, 0.05, LORA_TARGETS))
    encoders_in_train_mode: bool = True
    loudness: str = "batch"
    """Sound is normalised over a `batch`, or for each `clip` as at inference."""


class AffectGptInTraining(AffectGpt):
    """The model with adapters beside the weights that they adapt."""

    def __init__(
        self,
        clip: Any,
        hubert: Any,
        llm: Any,
        design: AffectGptDesign,
    ) -> None:
        super().__init__(clip, hubert, llm, design.fusions)
        self.image = nn.Linear(PICTURES[type(clip)].width(clip), llm.hidden_size)
        self._loudness, self._ready = design.loudness, SOUNDS[type(hubert)].ready
        self._crops = isinstance(clip, EvaConfig) and design.encoders_in_train_mode

    @classmethod
    def build(
        cls,
        parts: Mapping[str, Path],
        device: torch.device,
        precision: FrozenPrecision,
        design: AffectGptDesign,
        start: Path | None = None,
    ) -> "AffectGptInTraining":
        """Read llm, clip and hubert; what is trained is random (torch's stream) or read from the
        file `start`."""
        seen = picture_config(parts["clip"])
        heard = sound_config(parts["hubert"], masks=design.encoders_in_train_mode)
        with weightless():
            model = cls(seen, heard, words_config(parts["llm"]), design)
        hubert = SOUNDS[type(heard)].read(parts["hubert"], heard)
        clip = PICTURES[type(seen)].read(parts["clip"], seen)
        if getattr(heard, "mask_time_prob", 0) > 0 and "masked_spec_embed" not in hubert:
            width = heard.hidden_size  # upstream then draws one
            hubert["masked_spec_embed"] = LazyTensor((width,), "drawn", lambda: torch.rand(width))
        encoders = Placement(device, precision.encoders)
        load_strict(model.hubert, hubert, encoders)
        load_strict(model.clip, clip, encoders)
        words = rename(read_tensors(parts["llm"]), ())
        load_strict(model.llm, words, Placement(device, precision.llm))
        if design.encoders_in_train_mode:
            if isinstance(model.hubert, ImageBindAudio):
                drop_paths(model.hubert)
            else:
                _leave_layers_out(model.hubert, heard.layerdrop)
        for part in (model.image, model.video, model.audio, model.multi):
            part.to_empty(device=device).float().requires_grad_(True)
            initialise(part)
        if design.lora is not None:
            attach(model.llm, design.lora)
        if start is not None:
            model.restore(start)
        return model

    def restore(self, file: Path) -> None:
        """Read a checkpoint of ours or of the authors. Raises CheckpointError for another model."""
        tensors = rename(read_tensors(file, "model"), TRAINED_KEYS)
        parameters = trained(self)
        if not any(name.startswith("image.") for name in tensors):
            parameters = {n: each for n, each in parameters.items() if not n.startswith("image.")}
        fill(parameters, tensors, str(file))

    def published(self) -> dict[str, Tensor]:
        """The trained tensors, under the authors' names, on the CPU."""
        found = {name: each.detach().cpu().contiguous() for name, each in trained(self).items()}
        return publish(found, PUBLISHED)

    def encode(self, clips: Sequence[TrainingInputs]) -> list[dict[str, Tensor]]:
        """Encode each clip's media: 8 vectors of each kind."""
        found: list[dict[str, Tensor]] = [{} for _ in clips]
        with torch.no_grad():
            for kind in (FACE, FRAME, AUDIO):
                having = [index for index, clip in enumerate(clips) if kind in clip.media]
                if not having:
                    continue
                media = torch.stack([clips[index].media[kind] for index in having])
                if not clips[having[0]].encoded:
                    vectors = self._hear(media) if kind == AUDIO else self._see(media)
                    media = vectors.unflatten(0, (len(having), -1))
                for index, vectors in zip(having, media, strict=True):
                    found[index][kind] = vectors.to(self.llm.device, torch.float32)
        return found

    def _see(self, pictures: Tensor) -> Tensor:
        """Clips x 8 x 224 x 224 x 3 -> (8 times the clips) x the encoder's width."""
        if self._crops and self.training:
            pictures = torch.stack([random_crop(frames) for frames in pictures])
        return self.see(pictures.flatten(0, 1))

    def _hear(self, sounds: Tensor) -> Tensor:
        """Clips x 8 x 32000 -> (8 times the clips) x the encoder's width."""
        if self._loudness == "batch":  # enc 422-425 hands the whole batch over as one example
            sounds = self._ready(sounds)
        else:
            sounds = torch.stack([self._ready(sound) for sound in sounds])
        return self.hear(sounds.flatten(0, 1))

    def prompts(self, clips: Sequence[TrainingInputs]) -> list[Tensor]:
        """The prompt embeddings of each clip (length x width)."""
        return [
            splice(self.llm.get_input_embeddings(), clip.texts, self._slots(clip, vectors))
            for clip, vectors in zip(clips, self.encode(clips), strict=True)
        ]

    def _slots(self, clip: TrainingInputs, vectors: Mapping[str, Tensor]) -> list[Tensor]:
        into = {FACE: self.video, FRAME: self.video, AUDIO: self.audio}
        return [
            self.multi(vectors[clip.multi], vectors[AUDIO])
            if slot == MULTI
            else into[slot](vectors[slot])
            for slot in clip.slots
        ]


def initialise(module: nn.Module) -> None:
    """Fill with random values as the authors' constructors do: Linears as torch has them, a
    Q-Former as BERT (normal, 0.02), its queries and positions alike."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.LayerNorm):
            part.reset_parameters()
    if isinstance(module, QueryPooling):
        nn.init.normal_(module.queries, std=0.02)
        nn.init.normal_(module.positions.weight)  # torch's default: upstream leaves it
        for part in module.qformer.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)


def _leave_layers_out(hubert: Any, share: float) -> None:
    """Leave a layer out with probability `share` in train mode, its input counting as its output.

    transformers' own layerdrop (since release 5) leaves such a layer out of `hidden_states` as
    well, so that "the last four" would be others than upstream's.
    """
    hubert.config.layerdrop = 0.0

    def maybe(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not layer.training or torch.rand([]) >= share:
            return output
        return args[0] if isinstance(output, Tensor) else (args[0], *output[1:])

    if not math.isclose(share, 0.0):
        first = 1 if hubert.config.model_type == "wavlm" else 0  # whose first one is never left out
        for layer in hubert.encoder.layers[first:]:
            layer.register_forward_hook(maybe)


def write_checkpoint(
    model: AffectGptInTraining, folder: Path, epoch: int, loss: float, config: Mapping[str, Any]
) -> Path:
    """Write what is trained as the authors' runner does, for our adapter and their inference.

    Optimiser and scaler, which their file holds as well, are empty: resuming needs other files.
    """
    file = folder / f"checkpoint_{epoch:06d}_loss_{loss:.3f}.pth"
    content = {"model": model.published(), "optimizer": {}, "config": dict(config)}
    torch.save(content | {"scaler": None, "epoch": epoch}, file)
    return file
