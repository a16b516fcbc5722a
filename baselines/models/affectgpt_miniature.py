"""Random miniatures of AffectGPT, with the encoders and the language model of any kind.

The kind of a part is read from its name, as there is no config.json yet.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from ovmer.baselines import chat
from ovmer.baselines.checkpoint import CheckpointPart, read_json
from ovmer.baselines.layers import siglip
from ovmer.baselines.layers.clip_vision import MINI_CLIP
from ovmer.baselines.layers.hubert import HUBERT_NAMES, write_hubert_miniature
from ovmer.baselines.lora import random_lora
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.models.affectgpt import CONNECTOR_NAMES, AffectGpt, adapted_modules
from ovmer.baselines.models.affectgpt_encoders import (
    DINOV2_NAMES,
    PICTURES,
    SOUND_KINDS,
    SOUNDS,
    picture_config,
    sound_config,
    words_config,
)
from ovmer.baselines.models.affectgpt_eva_imagebind import (
    write_eva_encoder_miniature,
    write_imagebind_miniature,
)
from ovmer.baselines.weights import renames, weightless

_RELEASED = {
    "llm": "Qwen2.5-7B-Instruct",
    "clip": "clip-vit-large-patch14",
    "hubert": "chinese-hubert-large",
}
"""Folders of the parts that the released weights adapt."""
_MINI_CLIP = {
    "model_type": "clip",
    "projection_dim": 24,
    "vision_config": {**MINI_CLIP, "num_hidden_layers": 2},
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


def write_miniature(
    folder: Path, seed: int, checkpoint: str, asked: Mapping[str, CheckpointPart] | None = None
) -> dict[str, Path]:
    """A random AffectGPT with the published files and small widths; `checkpoint` names the trained.

    Names and files of `asked` tell the kind of a part (llm, clip, hubert) that is not the released
    one. Returns the path of each part of the checkpoint.
    """
    given = {name: part for name, part in (asked or {}).items() if name in _RELEASED}
    sources = {n: str(part.path or part.repo or part.folder) for n, part in given.items()}
    names = _RELEASED | {name: Path(source).name for name, source in sources.items()}
    trained = folder / checkpoint
    parts = {name: folder / names[name] for name in _RELEASED}
    like = {n: " ".join([names[n], *(given[n].files if n in given else ())]) for n in _RELEASED}
    _write_words(parts["llm"], seed, like["llm"])
    _write_sound(parts["hubert"], seed, like["hubert"])
    _write_picture(parts["clip"], seed, like["clip"])
    with weightless():
        model = AffectGpt(
            picture_config(parts["clip"]),
            sound_config(parts["hubert"]),
            words_config(parts["llm"]),
        )
    published = (
        *renames([(ours, theirs) for theirs, ours in CONNECTOR_NAMES]),
        (r"\.(lora_[AB])$", r".\1.default.weight"),
    )
    tensors = {
        key: tensor
        for key, tensor in random_tensors(model, seed).items()
        if key.startswith(("video.", "audio.", "multi."))
    }
    tensors |= random_lora(model, adapted_modules(model.llm), seed)
    picture = {"image_llama_proj.bias": torch.zeros(4)}
    trained.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": publish(tensors, published) | picture, "optimizer": {}, "config": {}}
    torch.save(content | {"scaler": None, "epoch": 0}, trained)
    return {"trained": trained, **parts}


def _write_picture(folder: Path, seed: int, like: str) -> None:
    """A random image encoder with its published names; `like` is a name that tells its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    if "eva_vit" in like:
        write_eva_encoder_miniature(folder, seed)
        return
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
        tensors = publish(tensors, renames([(ours, theirs) for theirs, ours in DINOV2_NAMES]))
    else:
        tensors |= {"text_model.final_layer_norm.bias": torch.zeros(4)}
        tensors |= {"logit_scale": torch.tensor(2.6592)}
    save_file(tensors, folder / "model.safetensors")


def _write_sound(folder: Path, seed: int, like: str) -> None:
    """A random sound encoder; `like` is a name that tells its kind."""
    kind = next((k for k in SOUND_KINDS if re.split("[-_]", k)[0] in like.lower()), "hubert")
    if kind == "hubert":
        write_hubert_miniature(folder, seed)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "imagebind_huge":
        write_imagebind_miniature(folder, seed)
        return
    write_json(folder / "config.json", _MINI_SOUND | {"model_type": kind})
    config = sound_config(folder, masks=True)
    with weightless():
        encoder = SOUNDS[type(config)].build(config)
    back = renames([(ours, theirs) for theirs, ours in HUBERT_NAMES])
    torch.save(publish(random_tensors(encoder, seed), back), folder / "pytorch_model.bin")


def _write_words(folder: Path, seed: int, like: str) -> None:
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
