"""The frozen parts of AffectGPT, and those of the paper's Figure 4, by the kind in config.json.

    picture   clip      the projected vector of a frame, not brought to unit length
              dinov2    the last hidden state, before the final norm; mean over class token, patches
              siglip    the last hidden state, before the final norm; mean over the patches
    sound     hubert, wavlm, data2vec-audio: see `AffectGpt.hear`
    words     qwen2, llama

Source: zeroQiaoba/MERTools at 89120b78, my_affectgpt/models/encoder.py. Its EVA-CLIP gives 32
vectors a frame, its ImageBind reads a spectrogram, each by a transform of its own: not here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
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
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    WavLMConfig,
    WavLMModel,
)

from ovmer.baselines import chat
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.images import IMAGENET_MEAN, IMAGENET_STD
from ovmer.baselines.layers import siglip
from ovmer.baselines.layers.clip_vision import normalise as to_pixels
from ovmer.baselines.layers.hubert import (
    HUBERT_KEYS,
    HUBERT_NAMES,
    write_hubert_miniature,
)
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.weights import Renames, renames, weightless

SIDE = 224
"""Pixels of a frame."""
_MASK = r"^masked_spec_embed$"
_PROCESSOR = "preprocessor_config.json"

CLIP_KEYS: Renames = (
    (r"^(text_model|text_projection)\.", None),  # the contrastive half
    (r"^logit_scale$", None),
    (r"\.position_ids$", None),  # computed
)
_DINOV2_NAMES = (
    *(
        (f"encoder.layer.*.attention.attention.{published}", f"encoder.layer.*.attention.{ours}")
        for published, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    ),
    ("encoder.layer.*.attention.output.dense", "encoder.layer.*.attention.o_proj"),
)
"""Names in the files of facebook/dinov2-*, and those of transformers since release 5."""
_MINI_CLIP = {
    "model_type": "clip",
    "projection_dim": 24,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
}
_MINI_SOUND = {
    "hidden_size": 36,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 5,  # data2vec: as many convolutions
    "num_conv_pos_embedding_groups": 4,
    "conv_pos_kernel_size": 3,
}
_MINI_DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 70,  # not what it is shown, as in the published: positions are interpolated
    "patch_size": 14,
}


@dataclass(frozen=True)
class PictureEncoder:
    """An image tower of a published folder, and what AffectGPT takes of it."""

    config: Callable[[Path], PreTrainedConfig]
    build: Callable[[Any], nn.Module]
    keys: Callable[[Any], Renames]
    """Published names -> those of the module."""
    width: Callable[[Any], int]
    look: Callable[[nn.Module, Tensor], Tensor]
    """Frames (T x 224 x 224 x 3, uint8, on the module's device) -> T x width."""


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
    larger = torch.from_numpy(siglip.stretch(_array(frames), 256)).to(frames.device)
    cut = larger[:, border:-border, border:-border]
    pixels = to_pixels(cut, IMAGENET_MEAN, IMAGENET_STD).to(dtype_of(encoder))
    last: Tensor = encoder(pixels, output_hidden_states=True).hidden_states[-1]
    return last.mean(dim=1)


def _through_siglip(encoder: nn.Module, frames: Tensor) -> Tensor:
    side: int = encoder.embeddings.image_size  # type: ignore[assignment,union-attr]
    stretched = torch.from_numpy(siglip.stretch(_array(frames), side)).to(frames.device)
    last: Tensor = encoder(siglip.normalise(stretched).to(dtype_of(encoder)))
    return last.mean(dim=1)


PICTURES: Mapping[type[PreTrainedConfig], PictureEncoder] = {
    CLIPVisionConfig: PictureEncoder(
        _clip_config,
        CLIPVisionModelWithProjection,
        lambda config: CLIP_KEYS,
        lambda config: int(config.projection_dim),
        _through_clip,
    ),
    Dinov2Config: PictureEncoder(
        lambda folder: Dinov2Config.from_dict(read_json(folder)),
        Dinov2Model,
        lambda config: renames(_DINOV2_NAMES),
        lambda config: int(config.hidden_size),
        _through_dinov2,
    ),
    SiglipVisionConfig: PictureEncoder(
        siglip.siglip_config,
        lambda config: siglip.SiglipVision(config, layer=-1),
        lambda config: siglip.siglip_keys(config, layer=-1),
        lambda config: int(config.hidden_size),
        _through_siglip,
    ),
}
_PICTURE_KINDS = {"clip": CLIPVisionConfig, "dinov2": Dinov2Config, "siglip": SiglipVisionConfig}
_SOUND_KINDS: Mapping[str, tuple[Any, Callable[[Any], PreTrainedModel]]] = {
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
    "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel),
}
_WORD_KINDS: Mapping[str, tuple[Any, Callable[[Any], PreTrainedModel]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def picture_config(folder: Path) -> PreTrainedConfig:
    """The image tower of a CLIP, DINOv2 or SigLIP. Raises CheckpointError for others."""
    return PICTURES[_kind(folder, _PICTURE_KINDS, "clip")].config(folder)


def sound_config(folder: Path, *, masks: bool = False) -> Any:
    """The published config.json of a HuBERT, WavLM or data2vec, without what masks in training
    unless `masks`.

    Raises CheckpointError for others, and for those that take sound as it is (WavLM Base).
    """
    config, _ = _kind(folder, _SOUND_KINDS, "hubert")
    if (folder / _PROCESSOR).is_file() and not read_json(folder, _PROCESSOR).get(
        "do_normalize", True
    ):
        raise CheckpointError(
            f"{folder / _PROCESSOR} says do_normalize=false, and AffectGPT normalises sound; "
            "choose an encoder that was trained with normalised sound"
        )
    unmasked = {} if masks else {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return config.from_dict(read_json(folder) | unmasked)


def words_config(folder: Path) -> Any:
    """The configuration of a Qwen2 or LLaMA. Raises CheckpointError for others."""
    config, _ = _kind(folder, _WORD_KINDS, "qwen2")
    return config.from_dict(read_json(folder))


def sound_encoder(config: Any) -> PreTrainedModel:
    return _SOUND_KINDS[config.model_type][1](config)


def language_model(config: Any) -> PreTrainedModel:
    return _WORD_KINDS[config.model_type][1](config)


def sound_keys(config: Any) -> Renames:
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


def dtype_of(encoder: nn.Module) -> torch.dtype:
    return next(encoder.parameters()).dtype


def _array(frames: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return frames.cpu().numpy()


def _kind(folder: Path, known: Mapping[str, Any], default: str) -> Any:
    kind = str(read_json(folder).get("model_type", default))
    if kind not in known:
        raise CheckpointError(
            f"{folder / 'config.json'} is of a {kind}, and AffectGPT takes {', '.join(known)} there"
        )
    return known[kind]


def write_picture_miniature(folder: Path, seed: int, like: str) -> None:
    """A random CLIP, DINOv2 or SigLIP with its published names; `like` is a name that tells."""
    folder.mkdir(parents=True, exist_ok=True)
    if "siglip" in like.lower():
        siglip.write_siglip_miniature(folder, seed, side=56, patch=14)
        return
    dinov2 = "dino" in like.lower()
    write_json(folder / "config.json", _MINI_DINOV2 if dinov2 else _MINI_CLIP)
    config = picture_config(folder)
    with weightless():
        encoder = PICTURES[type(config)].build(config)
    tensors = random_tensors(encoder, seed)
    if dinov2:
        tensors = publish(tensors, renames([(ours, theirs) for theirs, ours in _DINOV2_NAMES]))
    else:
        tensors |= {"text_model.final_layer_norm.bias": torch.zeros(4)}
        tensors |= {"logit_scale": torch.tensor(2.6592)}
    save_file(tensors, folder / "model.safetensors")


def write_sound_miniature(folder: Path, seed: int, like: str) -> None:
    """A random HuBERT, WavLM or data2vec; `like` is a name that tells."""
    kind = next((k for k in _SOUND_KINDS if k.partition("-")[0] in like.lower()), "hubert")
    if kind == "hubert":
        write_hubert_miniature(folder, seed)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _MINI_SOUND | {"model_type": kind})
    with weightless():
        encoder = sound_encoder(sound_config(folder, masks=True))
    back = renames([(ours, theirs) for theirs, ours in HUBERT_NAMES])
    torch.save(publish(random_tensors(encoder, seed), back), folder / "pytorch_model.bin")


def write_words_miniature(folder: Path, seed: int, like: str) -> None:
    """A random Qwen2.5-Instruct, or a LLaMA of the same sizes; `like` is a name that tells.

    The LLaMA has that Qwen's vocabulary, with a token that texts begin with.
    """
    chat.write_miniature(folder, seed)
    if "llama" not in like.lower():
        return
    config = LlamaConfig.from_dict(
        read_json(folder) | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    )
    tensors = load_file(folder / "model.safetensors")
    with weightless():
        model = LlamaForCausalLM(config)
    kept = {name: tensors[name] for name in model.state_dict()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer = read_json(folder, "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", tokenizer | {"bos_token": "<|endoftext|>"})
