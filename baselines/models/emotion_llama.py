"""Emotion-LLaMA (Cheng et al., NeurIPS 2024, arXiv 2406.11161): MiniGPT-v2 with three more vectors.

    first frame, 448 x 448 -> EVA-ViT-g -> LayerNorm -> patches: 1024 x 1408
                              4 patches side by side -> 256 x 5632 -> Linear | 256 vectors
    face (MAE), video (VideoMAE), sound (HuBERT): one vector of 1024 each
                                                     -> a Linear each        |   3 vectors
    class token of the picture                       -> Linear               |   1 vector
        -> 260 vectors of width 4096 in the prompt of Llama-2-7B-chat, adapted by LoRA

The LayerNorm has its initial values: no file that the authors load holds others.

Source: ZebangCheng/Emotion-LLaMA at 4ee28d20, `minigpt4/models/minigpt_v2.py`, `minigpt_base.py`
and `conversation/conversation.py` (the demo).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    Blip2VisionConfig,
    HubertConfig,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import normalise as to_pixels
from ovmer.baselines.layers.eva_vit import (
    EVA_FILE,
    EVA_HEADS,
    EvaVit,
    read_eva,
    write_eva_miniature,
)
from ovmer.baselines.layers.hubert import HUBERT_KEYS, hubert_config, write_hubert_miniature
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, read_llama, write_llama_miniature
from ovmer.baselines.lora import (
    LORA_KEYS,
    attention_modules,
    merge_lora,
    random_lora,
    take_lora,
)
from ovmer.baselines.miniature import publish, random_tensors
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, renames, weightless

SIDE = 448
"""Pixels of the frame, whose aspect ratio is lost."""
FEATURES = ("face", "video", "sound")
"""The three vectors, in their order in the prompt."""

LORA_ALPHA = 16
JOINED = 4
"""Patches that make one vector. They follow each other in a row: a strip, not a square."""

CONNECTOR_NAMES = (
    ("llama_proj", "image"),
    *((f"feats_llama_proj{number}", name) for number, name in enumerate(FEATURES, 1)),
    ("cls_tk_llama_proj", "whole"),
    ("llama_model.base_model.model", "llm"),
)
"""Published module names and ours."""
CONNECTOR_KEYS = (
    (r"^attention\.", None),  # a classifier of six emotions that is never called
    (r"rotary_emb\.inv_freq$", None),  # computed
    *renames(CONNECTOR_NAMES),
    *LORA_KEYS,
)


@dataclass(frozen=True)
class EmotionLlamaInputs:
    """One clip: token ids before and after the 260 vectors, the frame, and what else is known.

    `frame` is 448 x 448 x 3 (uint8), `features` 3 x width: the vectors of face, video and sound,
    zeros where there are none. With `waveform` (samples as HuBERT takes them) the last of the three
    is computed.
    """

    texts: Sequence[Sequence[int]]
    frame: Tensor
    features: Tensor
    waveform: Tensor | None = None


@dataclass(frozen=True)
class EmotionLlamaSizes(PromptSizes):
    features: int = 0
    """Numbers in each of the three feature vectors."""


def read_sizes(trained: Path, vision: Path, llm: Path) -> EmotionLlamaSizes:
    """Read the sizes from the published files' shapes and the language model's config.json."""
    context = llama_config(read_json(llm)).max_position_embeddings
    grid = SIDE // read_eva(vision, "")[0].patch_size
    vectors = grid * grid // JOINED + len(FEATURES) + 1
    return EmotionLlamaSizes(context, vectors, SIDE, _feature_width(read_trained(trained)))


class EmotionLlama(nn.Module):
    """Picture tower, sound tower if wanted, five linear layers and the language model."""

    def __init__(
        self, vision: Blip2VisionConfig, width: int, llm: LlamaConfig, hubert: HubertConfig | None
    ) -> None:
        super().__init__()
        self.vit = EvaVit(vision)
        self.image = nn.Linear(JOINED * vision.hidden_size, llm.hidden_size)
        self.face, self.video, self.sound = (nn.Linear(width, llm.hidden_size) for _ in FEATURES)
        self.whole = nn.Linear(vision.hidden_size, llm.hidden_size)
        self.hubert = None if hubert is None else HubertModel(hubert)
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        trained: Path,
        vision: Path,
        llm: Path,
        placement: Placement,
        *,
        hubert: Path | None = None,
        vit_heads: int = EVA_HEADS,
    ) -> "EmotionLlama":
        """Read a released checkpoint of training, eva_vit_g.pth and the folder of Llama-2-7b-chat.

        `hubert` is the folder of chinese-hubert-large, or None where the vectors of sound are given
        with each clip. No file tells the number of the picture tower's heads.
        """
        seen, tower = read_eva(vision, "vit.", vit_heads, SIDE)
        connector = read_trained(trained)
        adapters = take_lora(connector)
        sizes, words = read_llama(llm)
        with weightless():
            model = cls(
                seen,
                _feature_width(connector),
                sizes,
                None if hubert is None else hubert_config(hubert),
            )
        adapted = attention_modules("llm", sizes.num_hidden_layers, "qv")
        tensors = join(tower, connector, merge_lora(words, adapters, LORA_ALPHA, adapted))
        if hubert is not None:
            heard = rename(read_tensors(hubert), (*HUBERT_KEYS, (r"^", "hubert.")))
            tensors = join(tensors, heard)
        load_strict(model, tensors, placement)
        return model

    def see(self, frame: Tensor) -> Tensor:
        """448 x 448 x 3 (uint8) -> 1025 x the tower's width, class token first, normalised.

        The norm is learned in BLIP-2, but of this model its weights are one and its biases zero.
        """
        pixels = to_pixels(frame[None].to(self.llm.device)).to(self.llm.dtype)
        seen: Tensor = self.vit(pixels)[0]
        return nn.functional.layer_norm(seen, seen.shape[-1:], eps=1e-5)

    def hear(self, waveform: Tensor) -> Tensor:
        """Samples at 16 kHz, normalised -> the mean of HuBERT's last layer over time (width).

        That layer is what comes after the encoder's final norm.
        """
        if self.hubert is None:
            raise ValueError("a waveform was given to a model that was loaded without HuBERT")
        sound = waveform[None].to(self.llm.device, self.llm.dtype)
        heard: Tensor = self.hubert(sound).last_hidden_state[0].mean(dim=0)
        return heard

    def connect(self, seen: Tensor, features: Tensor) -> Tensor:
        """1025 x the tower's width and 3 x the features' width -> 260 x the language model's width.

        In this order: the picture in strips of four patches, face, video, sound, the whole picture.
        """
        patches = seen[1:]
        face, video, sound = features.to(seen)
        return torch.cat(
            [
                self.image(patches.reshape(-1, JOINED * patches.shape[1])),
                torch.stack([self.face(face), self.video(video), self.sound(sound)]),
                self.whole(seen[:1]),
            ]
        )

    def encode(self, inputs: EmotionLlamaInputs) -> Tensor:
        """The 260 vectors of one clip."""
        features = inputs.features
        if inputs.waveform is not None:
            heard = self.hear(inputs.waveform)
            features = torch.cat([features[:-1].to(heard), heard[None]])
        return self.connect(self.see(inputs.frame), features)

    def embed(self, inputs: EmotionLlamaInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        return splice(self.llm.get_input_embeddings(), inputs.texts, [self.encode(inputs)])


def trained_file(part: Path) -> Path:
    """The file `part` itself, or the one .pth file in that folder, at any depth.

    Raises CheckpointError where there is none or where there are several.
    """
    if part.is_file():
        return part
    found = sorted(part.rglob("*.pth"))
    if len(found) == 1:
        return found[0]
    there = ", ".join(file.name for file in found) or "none"
    raise CheckpointError(
        f"{part} should hold one .pth file but holds {there}; set "
        "baseline.checkpoint.trained.path to the file itself"
    )


def read_trained(part: Path) -> Tensors:
    """The trained tensors, renamed: the five linear layers and the low-rank adapters."""
    return rename(read_tensors(trained_file(part), "model"), CONNECTOR_KEYS)


def _feature_width(connector: Tensors) -> int:
    if lost := [name for name in FEATURES if f"{name}.weight" not in connector]:
        raise CheckpointError(
            f"the checkpoint has no projection of the {' and '.join(lost)} vector; is it a "
            "checkpoint of Emotion-LLaMA, and not MiniGPT-v2's, with which its training began?"
        )
    widths = {connector[f"{name}.weight"].sides(2)[1] for name in FEATURES}
    if len(widths) > 1:
        raise CheckpointError(
            f"the three feature vectors of the checkpoint have different widths, "
            f"{sorted(widths)}; is it a checkpoint of Emotion-LLaMA?"
        )
    return widths.pop()


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Emotion-LLaMA with the published files and token counts, and small widths.

    Only the feature vectors are as wide as the published, so that real ones can be given. Returns
    the path of each part of the checkpoint.
    """
    trained = folder / "save_checkpoint" / "Emotion_LLaMA.pth"
    vision, llm = folder / EVA_FILE, folder / "Llama-2-7b-chat-hf"
    hubert = folder / "transformer" / "chinese-hubert-large"
    trained.parent.mkdir(parents=True, exist_ok=True)
    write_eva_miniature(vision, seed)
    write_hubert_miniature(hubert, seed, hidden_size=1024, num_hidden_layers=1)
    width = hubert_config(hubert).hidden_size
    with weightless():
        sizes = read_eva(vision, "", side=SIDE)[0]
        model = EmotionLlama(sizes, width, llama_config(MINI_LLAMA2), None)
    drawn = random_tensors(model, seed)
    drawn = {key: drawn[key] for key in drawn if not key.startswith("vit.")}
    words = {key.removeprefix("llm."): drawn.pop(key) for key in list(drawn) if key[:4] == "llm."}
    write_llama_miniature(llm, MINI_LLAMA2, words)
    layers = MINI_LLAMA2["num_hidden_layers"]
    drawn |= random_lora(model, attention_modules("llm", layers, "qv"), seed)
    torch.save({"model": _published(drawn), "optimizer": {}, "config": {}, "epoch": 0}, trained)
    return {"trained": trained, "vision": vision, "llm": llm, "hubert": hubert}


def _published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file of what was trained, with one tensor of each kind that loading ignores."""
    names = renames([(ours, theirs) for theirs, ours in CONNECTOR_NAMES])
    aside = {
        "attention.fc_out.bias": torch.zeros(6),
        "llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16),
    }
    return publish(tensors, (*names, (r"\.(lora_[AB])$", r".\1.weight"))) | aside
