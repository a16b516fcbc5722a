"""The frozen parts of AffectGPT, and those of the paper's Figure 4, by the kind in config.json.

    picture   clip      the projected vector of a frame, not brought to unit length
              dinov2    the last hidden state, before the final norm; mean over class token, patches
              siglip    the last hidden state, before the final norm; mean over the patches
              eva_vit_g       } see affectgpt_eva_imagebind.py; their folders have no config.json,
    sound     imagebind_huge  } but files of these names
              hubert, wavlm, data2vec-audio    the last four layers; mean over them and over time
    words     qwen2, llama

Source: zeroQiaoba/MERTools at 89120b78, my_affectgpt/models/encoder.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Dinov2Config,
    Dinov2Model,
    HubertConfig,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    WavLMConfig,
    WavLMModel,
)

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.images import IMAGENET_MEAN, IMAGENET_STD
from ovmer.baselines.layers import siglip
from ovmer.baselines.layers.clip_vision import normalise as to_pixels
from ovmer.baselines.layers.eva_vit import EVA_FILE
from ovmer.baselines.layers.hubert import (
    HUBERT_KEYS,
    HUBERT_NAMES,
    normalise,
)
from ovmer.baselines.layers.imagebind import IMAGEBIND_FILE, ImageBindAudio, ImageBindConfig
from ovmer.baselines.models.affectgpt_eva_imagebind import (
    EvaConfig,
    EvaEncoder,
    eva_config,
    hear_spectrograms,
    imagebind_config,
    read_eva_encoder,
    read_imagebind,
    spectrograms,
)
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import Renames, rename, renames

SIDE = 224
"""Pixels of a frame."""
_MASK = r"^masked_spec_embed$"
_PROCESSOR = "preprocessor_config.json"

CLIP_KEYS: Renames = (
    (r"^(text_model|text_projection)\.", None),  # the contrastive half
    (r"^logit_scale$", None),
    (r"\.position_ids$", None),  # computed
)
DINOV2_NAMES = (
    *(
        (f"encoder.layer.*.attention.attention.{published}", f"encoder.layer.*.attention.{ours}")
        for published, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    ),
    ("encoder.layer.*.attention.output.dense", "encoder.layer.*.attention.o_proj"),
)
"""Names in the files of facebook/dinov2-*, and those of transformers since release 5."""


@dataclass(frozen=True)
class PictureEncoder:
    """An image tower of a published folder, and what AffectGPT takes of it."""

    config: Callable[[Path], Any]
    build: Callable[[Any], nn.Module]
    read: Callable[[Path, Any], Tensors]
    """The module's tensors in the folder, given its config."""
    width: Callable[[Any], int]
    look: Callable[[nn.Module, Tensor], Tensor]
    """Frames (T x 224 x 224 x 3, uint8, on the module's device) -> T x width."""


@dataclass(frozen=True)
class SoundEncoder:
    """An encoder of stretches of sound, and what AffectGPT takes of it."""

    config: Callable[[Path, bool], Any]
    """Given its folder, and whether it masks in training."""
    build: Callable[[Any], nn.Module]
    read: Callable[[Path, Any], Tensors]
    width: Callable[[Any], int]
    ready: Callable[[Tensor], Tensor]
    """Stretches (... x 32000, each less its mean) -> what `hear` takes, on the CPU."""
    hear: Callable[[nn.Module, Tensor], Tensor]
    """N stretches -> N x width."""


def _clip_config(folder: Path) -> CLIPVisionConfig:
    published = read_json(folder)
    if lost := {"vision_config", "projection_dim"} - published.keys():
        raise CheckpointError(f"{folder / 'config.json'} lacks {lost.pop()}; is it a CLIP?")
    sizes = {**published["vision_config"], "projection_dim": published["projection_dim"]}
    config: CLIPVisionConfig = CLIPVisionConfig.from_dict(sizes)
    return config


def _through_clip(encoder: nn.Module, frames: Tensor) -> Tensor:
    seen: Tensor = encoder(to_pixels(frames).to(dtype_of(encoder))).image_embeds
    return seen


def _through_dinov2(encoder: nn.Module, frames: Tensor) -> Tensor:
    """The processor of facebook/dinov2-*: to 256 pixels, of which the middle 224 are cut out."""
    border = (256 - SIDE) // 2
    larger = torch.from_numpy(siglip.stretch(frames.cpu().numpy(), 256)).to(frames.device)
    cut = larger[:, border:-border, border:-border]
    pixels = to_pixels(cut, IMAGENET_MEAN, IMAGENET_STD).to(dtype_of(encoder))
    last: Tensor = encoder(pixels, output_hidden_states=True).hidden_states[-1]
    return last.mean(dim=1)


def _through_siglip(encoder: nn.Module, frames: Tensor) -> Tensor:
    side: int = encoder.embeddings.image_size  # type: ignore[assignment,union-attr]
    stretched = torch.from_numpy(siglip.stretch(frames.cpu().numpy(), side)).to(frames.device)
    last: Tensor = encoder(siglip.normalise(stretched).to(dtype_of(encoder)))
    return last.mean(dim=1)


def _last_four(encoder: nn.Module, sound: Tensor) -> Tensor:
    """The mean of the last four layers, and over time.

    The last of the four is what comes after the encoder's final norm; releases of transformers
    differ in whether `hidden_states` ends with it.
    """
    heard = encoder(sound, output_hidden_states=True)
    layers = [*heard.hidden_states[-4:-1], heard.last_hidden_state]
    return torch.stack(layers).mean(dim=0).mean(dim=1)


def _waveform_config(kind: Any, folder: Path, masks: bool) -> Any:
    if (folder / _PROCESSOR).is_file() and not read_json(folder, _PROCESSOR).get(
        "do_normalize", True
    ):
        raise CheckpointError(
            f"{folder / _PROCESSOR} says do_normalize=false, and AffectGPT normalises sound; "
            "choose an encoder that was trained with normalised sound"
        )
    unmasked = {} if masks else {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return kind.from_dict(read_json(folder) | unmasked)


def _waveform_keys(config: Any) -> Renames:
    """Published names -> those of the module, which has a mask only if it masks."""
    masks = config.mask_time_prob > 0 or config.mask_feature_prob > 0
    if config.model_type == "hubert":
        return tuple(rule for rule in HUBERT_KEYS if rule[0] != _MASK or not masks)
    return (
        *(() if masks else ((r"\bmasked_spec_embed$", None),)),
        (r"^lm_head\.", None),  # data2vec-audio-base-960h writes down words
        (r"^(wavlm|data2vec_audio)\.", ""),
        *renames(HUBERT_NAMES),
    )


def _waveform_encoder(config: Any, build: Callable[[Any], PreTrainedModel]) -> SoundEncoder:
    return SoundEncoder(
        partial(_waveform_config, config),
        build,
        lambda folder, config: rename(read_tensors(folder), _waveform_keys(config)),
        lambda config: int(config.hidden_size),
        normalise,
        _last_four,
    )


PICTURES: Mapping[type[Any], PictureEncoder] = {
    CLIPVisionConfig: PictureEncoder(
        _clip_config,
        CLIPVisionModelWithProjection,
        lambda folder, config: rename(read_tensors(folder), CLIP_KEYS),
        lambda config: int(config.projection_dim),
        _through_clip,
    ),
    Dinov2Config: PictureEncoder(
        lambda folder: Dinov2Config.from_dict(read_json(folder)),
        Dinov2Model,
        lambda folder, config: rename(read_tensors(folder), renames(DINOV2_NAMES)),
        lambda config: int(config.hidden_size),
        _through_dinov2,
    ),
    SiglipVisionConfig: PictureEncoder(
        siglip.siglip_config,
        lambda config: siglip.SiglipVision(config, layer=-1),
        lambda folder, config: rename(read_tensors(folder), siglip.siglip_keys(config, layer=-1)),
        lambda config: int(config.hidden_size),
        _through_siglip,
    ),
    EvaConfig: PictureEncoder(
        eva_config,
        EvaEncoder,
        read_eva_encoder,
        lambda config: int(config.qformer.width),
        lambda encoder, frames: encoder(frames),
    ),
}
SOUNDS: Mapping[type[Any], SoundEncoder] = {
    HubertConfig: _waveform_encoder(HubertConfig, HubertModel),
    WavLMConfig: _waveform_encoder(WavLMConfig, WavLMModel),
    Data2VecAudioConfig: _waveform_encoder(Data2VecAudioConfig, Data2VecAudioModel),
    ImageBindConfig: SoundEncoder(
        lambda folder, masks: imagebind_config(folder),
        ImageBindAudio,
        lambda folder, config: read_imagebind(folder),
        lambda config: int(config.output),
        spectrograms,
        hear_spectrograms,
    ),
}
_NAMED_FILES = {EVA_FILE: "eva_vit_g", IMAGEBIND_FILE: "imagebind_huge"}
"""Files that tell the kind of a folder without config.json."""
_PICTURE_KINDS: Mapping[str, type[Any]] = {
    "clip": CLIPVisionConfig,
    "dinov2": Dinov2Config,
    "siglip": SiglipVisionConfig,
    "eva_vit_g": EvaConfig,
}
SOUND_KINDS: Mapping[str, type[Any]] = {
    "hubert": HubertConfig,
    "wavlm": WavLMConfig,
    "data2vec-audio": Data2VecAudioConfig,
    "imagebind_huge": ImageBindConfig,
}
_WORD_KINDS: Mapping[str, tuple[Any, Callable[[Any], PreTrainedModel]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def picture_config(folder: Path) -> Any:
    """The sizes of an image encoder of `PICTURES`. Raises CheckpointError for others."""
    return PICTURES[_kind(folder, _PICTURE_KINDS, "clip")].config(folder)


def sound_config(folder: Path, *, masks: bool = False) -> Any:
    """The sizes of a sound encoder, without what masks in training unless `masks`.

    Raises CheckpointError for others than `SOUNDS`, and for those that take sound as it is (WavLM
    Base).
    """
    return SOUNDS[_kind(folder, SOUND_KINDS, "hubert")].config(folder, masks)


def sound_input(folder: Path) -> Callable[[Tensor], Tensor]:
    """What prepares sound for the encoder of a folder (`SoundEncoder.ready`)."""
    return SOUNDS[_kind(folder, SOUND_KINDS, "hubert")].ready


def words_config(folder: Path) -> Any:
    """The configuration of a Qwen2 or LLaMA. Raises CheckpointError for others."""
    config, _ = _kind(folder, _WORD_KINDS, "qwen2")
    return config.from_dict(read_json(folder))


def language_model(config: Any) -> PreTrainedModel:
    return _WORD_KINDS[config.model_type][1](config)


def dtype_of(encoder: nn.Module) -> torch.dtype:
    return next(encoder.parameters()).dtype


def _kind(folder: Path, known: Mapping[str, Any], default: str) -> Any:
    named = [
        k for file, k in _NAMED_FILES.items() if file == folder.name or (folder / file).exists()
    ]
    kind = named[0] if named else str(read_json(folder).get("model_type", default))
    if kind not in known:
        raise CheckpointError(
            f"{folder / 'config.json'} is of a {kind}, and AffectGPT takes {', '.join(known)} there"
        )
    return known[kind]
