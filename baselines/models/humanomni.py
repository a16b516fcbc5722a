"""HumanOmni (Zhao et al., arXiv 2501.15111) and R1-Omni (arXiv 2503.05379), made from it.

    frames -> SigLIP, the layer below the last -> patches of each frame
        -> video branch: RegStage -> Conv3d, half the side -> RegStage -> MLP |
        -> body branch: the same with weights of its own                      | weighted sum
        -> face branch: MLP -> half the side, bilinear                        |
        -> HumanOmni-7B: every frame pooled 2 x 2, then every fourth frame as it is
    question -> BERT -> MLP -> softmax: the three weights
    30 s of sound -> Whisper-large-v3's encoder -> mean of every 3 steps -> MLP, 500 vectors
        -> two slots in the prompt of Qwen2.5

All branches see whole frames: nothing crops a face or a body. The 0.5B models put 392 vectors of 8
frames into the prompt, HumanOmni-7B 3136 of 32.

Source: HumanMLLM/R1-Omni at 17cafca and HumanMLLM/HumanOmni at 26fa491, `humanomni_arch.py` and
`projector.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ovmer.baselines import chat
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.branches import (
    BRANCHES,
    LARGE,
    SMALL,
    Projector,
    compress,
    half,
    mlp,
    slow,
)
from ovmer.baselines.layers.siglip import (
    SiglipVision,
    normalise,
    siglip_config,
    siglip_keys,
    write_siglip_miniature,
)
from ovmer.baselines.layers.whisper import WHISPER_KEYS, write_whisper_miniature
from ovmer.baselines.miniature import (
    THINKING,
    end_thinking,
    publish,
    random_tensors,
    write_json,
    write_safetensors_shards,
    write_wordpieces,
)
from ovmer.baselines.models.humanomni_config import LLM_FIELDS, HumanOmniConfig
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

_GATE_WIDTH = 3584  # in all sizes (humanomni_arch.py)
_POOL = 3  # steps of Whisper averaged into one vector

KEYS = (
    # Copies of the frozen towers: upstream reads those that config.json names instead.
    (r"^model\.(vision|audio)_tower\.", None),
    (r"^model\.feature_compressor\.", None),  # layers that its forward pass never calls
    (r"^model\.bert_model\.pooler\.", None),
    (r"\.position_ids$", None),  # computed
    (r"^model\.mm_projector\.", "projector."),
    (r"^model\.audio_projector\.", "audio_projector."),
    (r"^model\.bert_gate\.", "gate."),
    (r"^model\.bert_model\.", "bert."),
    (r"^(model|lm_head)\.", r"llm.\1."),
)
_COMPRESSOR = "model.feature_compressor."
_WORDS, _HEAD = "llm.model.embed_tokens.weight", "llm.lm_head.weight"


@dataclass(frozen=True)
class HumanOmniSizes(PromptSizes):
    """`positions` are those of the frames."""

    heard: int = field(kw_only=True)
    """Prompt positions that the sound takes, however long it is."""
    frames: int = field(kw_only=True)
    mel_bins: int = field(kw_only=True)
    has_tags: bool = field(kw_only=True)
    question: int = field(kw_only=True)
    """Tokens of the question that BERT reads at most."""


def read_sizes(model: Path, siglip: Path, whisper: Path, bert: Path) -> HumanOmniSizes:
    """Read the sizes from the configurations and the names of the main folder's tensors."""
    config, vision = HumanOmniConfig.read(model), siglip_config(siglip)
    audio = WhisperConfig(**read_json(whisper))
    config.check(model, vision, audio)
    side = half(vision.image_size // vision.patch_size)
    seen = config.frames * side**2
    if _has_compressor(read_tensors(model)):
        seen = config.frames * (side // 2) ** 2 + len(slow(config.frames)) * side**2
    return HumanOmniSizes(
        context=config.llm["max_position_embeddings"],
        positions=seen,
        image=vision.image_size,
        heard=audio.max_source_positions // _POOL,
        frames=config.frames,
        mel_bins=audio.num_mel_bins,
        has_tags=config.has_tags,
        question=BertConfig(**read_json(bert)).max_position_embeddings,
    )


@dataclass(frozen=True)
class HumanOmniInputs:
    """One clip: token ids around the slots, the question as BERT reads it, picture and sound.

    `frames` is T x side x side x 3 (uint8), `mel` is 128 x 3000; None for what is not given.
    """

    texts: Sequence[Sequence[int]]
    question: Sequence[int]
    frames: Tensor | None
    mel: Tensor | None


class HumanOmni(nn.Module):
    """Two towers, the gated branches, the way in for sound, and the language model."""

    def __init__(
        self,
        config: HumanOmniConfig,
        siglip: SiglipVisionConfig,
        whisper: WhisperConfig,
        bert: BertConfig,
        *,
        compresses: bool,
    ) -> None:
        super().__init__()
        # The head is filled from the embeddings where the checkpoint ties them: one kind of model
        # for the engines.
        llm = Qwen2Config(**_of_transformers(config.llm), tie_word_embeddings=False)
        self.siglip = SiglipVision(siglip, config.vision_layer)
        self.whisper = WhisperEncoder(whisper)
        self.bert = BertModel(bert, add_pooling_layer=False)
        self.gate = mlp(bert.hidden_size, _GATE_WIDTH, 3)
        kind, width = BRANCHES[config.projector], llm.hidden_size
        self.projector = Projector(kind, siglip.hidden_size, width)
        self.audio_projector = mlp(whisper.d_model, width, width)
        self.llm = Qwen2ForCausalLM(llm)
        self.compresses = compresses

    @classmethod
    def load(
        cls, model: Path, siglip: Path, whisper: Path, bert: Path, placement: Placement
    ) -> "HumanOmni":
        """Read the four folders as published; of `bert` the configuration alone.

        The towers' weights are those of their own folders, BERT's those of the main one, in which
        it may have been trained on.
        """
        config, vision = HumanOmniConfig.read(model), siglip_config(siglip)
        audio = WhisperConfig(**read_json(whisper))
        config.check(model, vision, audio)
        published = read_tensors(model)
        with weightless():
            modules = cls(
                config,
                vision,
                audio,
                BertConfig(**read_json(bert)),
                compresses=_has_compressor(published),
            )
        trained = rename(published, KEYS)
        if config.is_tied and _WORDS in trained:
            trained[_HEAD] = trained[_WORDS]
        tensors = join(
            trained,
            rename(read_tensors(siglip), siglip_keys(vision, config.vision_layer, "siglip.")),
            rename(read_tensors(whisper), WHISPER_KEYS),
        )
        load_strict(modules, tensors, placement)
        return modules

    def see(self, frames: Tensor) -> Tensor:
        """T x side x side x 3 (uint8) -> T x patches x SigLIP's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        seen: Tensor = self.siglip(pixels)
        return seen

    def weigh(self, question: Sequence[int]) -> Tensor:
        """The ids of a question -> the weights of video, body and face, three numbers."""
        ids = torch.tensor([question], device=self.llm.device)
        cls_state = self.bert(input_ids=ids).last_hidden_state[0, 0]
        weights: Tensor = self.gate(cls_state).softmax(dim=-1)
        return weights

    def fuse(self, patches: Tensor, weights: Tensor) -> Tensor:
        """T x patches x SigLIP's width, and the weights -> N x the language model's width."""
        video, body, face = self.projector(patches)
        fused = weights[0] * video + weights[1] * body + weights[2] * face
        return compress(fused) if self.compresses else fused.flatten(0, 1)

    def hear(self, mel: Tensor) -> Tensor:
        """128 x 3000 -> 500 x Whisper's width."""
        heard = self.whisper(mel[None].to(self.llm.device, self.llm.dtype)).last_hidden_state
        return F.avg_pool1d(heard.transpose(1, 2), _POOL)[0].T

    def embed(self, inputs: HumanOmniInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip: picture, then sound."""
        features = []
        if inputs.frames is not None:
            features.append(self.fuse(self.see(inputs.frames), self.weigh(inputs.question)))
        if inputs.mel is not None:
            features.append(self.audio_projector(self.hear(inputs.mel)))
        return splice(self.llm.get_input_embeddings(), inputs.texts, features)


def _has_compressor(tensors: Tensors) -> bool:
    return any(name.startswith(_COMPRESSOR) for name in tensors)


def _of_transformers(llm: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a Qwen2Config as transformers 5 has them."""
    fields = dict(llm)
    theta = fields.pop("rope_theta")
    return fields | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


_PUBLISHED = (
    (r"^projector\.", "model.mm_projector."),
    (r"^audio_projector\.", "model.audio_projector."),
    (r"^gate\.", "model.bert_gate."),
    (r"^bert\.", "model.bert_model."),
)
"""The way back, for miniatures."""
_MINI_BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}
_MINI: Mapping[str, dict[str, Any]] = {
    SMALL: {
        "mm_vision_tower": "/mnt/data/google/siglip-base-patch16-224",
        "num_frames": 8,
        "tie_word_embeddings": True,
    },
    LARGE: {
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "num_frames": 32,
        "tie_word_embeddings": False,
    },
}
"""Fields of config.json that differ between the two sizes, a dead path included."""


def write_miniature(
    folder: Path, seed: int, projector: str, *, thinks: bool = False
) -> dict[str, Path]:
    """A random HumanOmni with the published files, token counts and context, and small widths.

    `projector` is a key of `BRANCHES`. One that `thinks` is apt to end a thinking part, which its
    head must not share with its embeddings. Returns the folder of each part of the checkpoint.
    """
    own = _MINI[projector]
    if thinks:
        own = own | {"tie_word_embeddings": False}
    main = folder / ("R1-Omni-0.5B" if projector == SMALL else "HumanOmni-7B")
    siglip = folder / Path(own["mm_vision_tower"]).name
    whisper, bert = folder / "whisper-large-v3", folder / "bert-base-uncased"
    chat.write_miniature(main, seed, more=THINKING if thinks else ())
    side, patch = (224, 16) if projector == SMALL else (384, 14)
    write_siglip_miniature(siglip, seed, side, patch)
    write_whisper_miniature(whisper, seed, mel_bins=128)
    bert.mkdir(parents=True, exist_ok=True)
    words = _MINI_BERT | {"vocab_size": write_wordpieces(bert / "vocab.txt")}
    write_json(bert / "config.json", words)
    vision, audio = siglip_config(siglip), WhisperConfig(**read_json(whisper))
    _write_config(main, own | {"mm_projector_type": projector}, vision, audio)
    with weightless():
        model = HumanOmni(
            HumanOmniConfig.read(main), vision, audio, BertConfig(**words), compresses=False
        )
    read_elsewhere = ("llm.", "siglip.", "whisper.")
    drawn = {
        name: tensor
        for name, tensor in random_tensors(model, seed).items()
        if not name.startswith(read_elsewhere)
    }
    tensors = publish(drawn, _PUBLISHED) | load_file(main / "model.safetensors")
    # Whose end token is made likely; after prompts as long as these it would always come first.
    head = tensors["lm_head.weight"]
    head[read_json(main)["eos_token_id"]] /= 2
    if thinks:
        end_thinking(tensors["model.embed_tokens.weight"], head, len(head) - 1)
    # Unused tensors of the published file: copies of the towers, BERT's pooler.
    tower = "model.vision_tower.vision_tower.vision_model.post_layernorm.bias"
    tensors |= {name: torch.ones(3) for name in (tower, "model.bert_model.pooler.dense.bias")}
    if projector == SMALL:
        if own["tie_word_embeddings"]:
            del tensors["lm_head.weight"]
        save_file(tensors, main / "model.safetensors", metadata={"format": "pt"})
    else:
        for name in ("query", "key"):
            tensors[f"{_COMPRESSOR}vlm_{name}_projector.bias"] = torch.zeros(256)
        (main / "model.safetensors").unlink()
        write_safetensors_shards(main, tensors, shards=2)
    return {"model": main, "siglip": siglip, "whisper": whisper, "bert": bert}


def _write_config(
    main: Path, own: Mapping[str, Any], siglip: SiglipVisionConfig, whisper: WhisperConfig
) -> None:
    """config.json with the fields of the published one, from that of the language model."""
    llm = read_json(main)
    write_json(
        main / "config.json",
        {
            **{name: llm[name] for name in LLM_FIELDS if name in llm},
            "architectures": ["HumanOmniQwen2ForCausalLM"],
            "audio_hidden_size": whisper.d_model,
            "image_aspect_ratio": "pad",
            "mm_audio_projector_type": "mlp2x_gelu",
            "mm_audio_tower": "/mnt/data/whisper-large-v3",
            "mm_hidden_size": siglip.hidden_size,
            "mm_use_x_start_end": True,
            "mm_vision_select_feature": "patch",
            "mm_vision_select_layer": -2,
            "model_type": "HumanOmni_qwen2",
            "rope_theta": llm["rope_parameters"]["rope_theta"],
            **own,
        },
    )
