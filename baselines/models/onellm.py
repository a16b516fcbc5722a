"""OneLLM (Han et al., CVPR 2024, arXiv 2312.03700): one encoder and one projection for all senses.

    15 views of a video  -> CLIP's Conv2d 14 x 14         -> 15 x 256 patches |
    10 s of sound as mel -> its own Conv2d 16 x 16 by 10  -> 1212 patches     |
        -> + class token, + positions -> CLIP ViT-L/14 -> mean of the views -> 257 or 1213 x 1024
        -> Linear, after 30 learned tokens -> 3 experts of 8 blocks each, weighed by a router
        -> the 30 tokens -> Linear -> 30 vectors of width 4096, between a start and an end tag,
           right after the first token of LLaMA 2 7B

Encoder and experts are the same for pictures and for sound; tokens, router, the two Linears and the
tags are separate. A prompt takes one of the two. All of it is in one file in Meta's layout,
whose language model is turned into transformers' here. The file's six other senses are ignored.

Source: csuhan/OneLLM at 8587a476, `model/LLM/onellm.py` and `model/meta.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.decoding.row_cache import CACHE_ARGUMENT
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.images import three_crops
from ovmer.baselines.layers.clip_vision import (
    MINI_CLIP,
    OPEN_CLIP_FUSED,
    OPEN_CLIP_NAMES,
    ClipVision,
    open_clip_config,
)
from ovmer.baselines.layers.imagebind import spectrogram
from ovmer.baselines.llama import (
    META_NAMES,
    MINI_LLAMA2,
    from_meta,
    llama_config,
    meta_config,
    to_meta,
)
from ovmer.baselines.miniature import fuse, publish, random_tensors, write_json, write_sentencepiece
from ovmer.baselines.models.onellm_projection import (
    MEL_FRAMES,
    TOKENS,
    ExpertBlock,
    SenseProjection,
    SoundPatches,
)
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import load_strict, rename, renames, split, weightless

VIDEO, AUDIO = "video", "audio"
"""The senses that are read, by their published names."""

WEIGHTS_FILE, PARAMS_FILE = "consolidated.00-of-01.pth", "params.json"

# config/llama2/7B.json of csuhan/OneLLM, which its README gives as --llama_config.
_PARAMS_7B: Mapping[str, Any] = {"dim": 4096, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-5}

# What leaves no trace in the files (`Transformer.__init__`; open_clip's ViT-L-14).
CLIP_HEADS = 16
POSITIONS = TOKENS + 2
"""Prompt positions that a clip takes, with the tags around it."""
CONTEXT = 2048
"""Of prompt and answer (`meta.py`, `max_seq_len`)."""

_SIDE = 224
# Of log energies over AudioSet; twice the deviation (`make_audio_features`).
_MEL_MEAN, _MEL_STD = -4.2677393, 2 * 4.5689974

_SENSE_NAMES = (
    ("resample_tokens", "tokens"),
    ("clip_proj1", "into"),
    ("routers", "router"),
    ("clip_proj2", "out_of"),
    ("start_tag", "start"),
    ("end_tag", "end"),
)
_NAMES = (
    *((f"clip.visual.{theirs}", f"tower.{ours}") for theirs, ours in OPEN_CLIP_NAMES),
    ("clip.visual.ln_post", "tower_norm"),
    ("conv1.audio", "sound.patches"),
    ("positional_embedding.audio", "sound.positions"),
    ("resample_layers", "experts"),
    *(
        (f"{theirs}.{sense}", f"senses.{sense}.{ours}")
        for theirs, ours in _SENSE_NAMES
        for sense in (VIDEO, AUDIO)
    ),
    *((theirs, f"llm.{ours}") for theirs, ours in META_NAMES),
)
KEYS = (
    (r"^llma\.", ""),
    (r"^rope\.freqs$", None),  # computed
    (r"^clip\.((?!visual\.)|visual\.proj$)", None),  # where CLIP compares pictures with words
    (r"^\w+\.(image|point|rgbd|rgbn|fmri|imu)\b", None),  # the other senses
    *renames(_NAMES),
)


@dataclass(frozen=True)
class OneLlmInputs:
    """One clip: token ids before and after it, and what is seen (VIDEO) or heard (AUDIO) of it.

    `signal` is what `views` or what `mel_picture` makes.
    """

    texts: Sequence[Sequence[int]]
    sense: str
    signal: Tensor


@dataclass(frozen=True)
class OneLlmConfig:
    """Sizes of the parts."""

    clip: CLIPVisionConfig
    experts: int
    blocks: int
    """Of each expert."""
    expert_ffn: int
    router_ffn: int
    llm: LlamaConfig

    @classmethod
    def read(cls, params: Mapping[str, Any], tensors: Tensors, clip_heads: int) -> "OneLlmConfig":
        """Read from params.json and the shapes of renamed tensors. Raises CheckpointError."""
        return cls(
            clip=open_clip_config(tensors, "tower", clip_heads),
            experts=_count(tensors, r"experts\.(\d+)\."),
            blocks=_count(tensors, r"experts\.0\.(\d+)\."),
            expert_ffn=_rows(tensors, "experts.0.0.feed_forward.w1.weight"),
            router_ffn=_rows(tensors, f"senses.{AUDIO}.router.fc1.weight"),
            llm=meta_config(params, tensors, "llm", CONTEXT),
        )


def _params(folder: Path, tensors: Tensors) -> dict[str, Any]:
    """params.json, or where there is none what OneLLM's repository has for its 7B model.

    Raises CheckpointError where the file is missing and the weights are of another size.
    """
    if (folder / PARAMS_FILE).is_file():
        return read_json(folder, PARAMS_FILE)
    words = tensors.get("llm.model.embed_tokens.weight")
    sizes = (words.shape[-1] if words else 0, _count(tensors, r"llm\.model\.layers\.(\d+)\."))
    if words is None or sizes != (_PARAMS_7B["dim"], _PARAMS_7B["n_layers"]):
        raise CheckpointError(
            f"{folder} has no {PARAMS_FILE}, and its weights are not of OneLLM-7B, whose sizes are "
            "known; copy the file of csuhan/OneLLM that was given as --llama_config"
        )
    if words.origin is not None:
        words.origin.notes.append(f"there is no {PARAMS_FILE}; the sizes are OneLLM-7B's")
    return dict(_PARAMS_7B)


def _rows(tensors: Tensors, name: str) -> int:
    if name not in tensors:
        raise CheckpointError(f"the checkpoint has no {name} of OneLLM; is it {WEIGHTS_FILE}?")
    return tensors[name].sides(2)[0]


def _count(tensors: Tensors, pattern: str) -> int:
    found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
    return 1 + max(found, default=-1)


class ForgetfulLlama(LlamaForCausalLM):
    """LLaMA as OneLLM's own code runs it, which miscounts: the last two of the prompt are lost.

    `forward_inference` leaves the two tags out when it counts what is in its cache. The first new
    token is computed from the whole prompt; it then replaces the prompt's last but one, and what
    stood last is out of sight, and so on from there.
    """

    def forward(
        self,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,
    ) -> Any:
        """Run as the base class does. `generate` counts the whole prompt in mask and positions, and
        passes no mask if nothing is padded."""
        cache = others.get(CACHE_ARGUMENT)
        begun = cache is not None and cache.get_seq_length() > 0
        if begun:
            position_ids = None if position_ids is None else position_ids - 2
            attention_mask = None if attention_mask is None else attention_mask[:, :-2]
        output = super().forward(attention_mask=attention_mask, position_ids=position_ids, **others)
        cache = output.get(CACHE_ARGUMENT)
        if cache is not None and not begun:
            cache.crop(-2)
        return output


class OneLlm(nn.Module):
    """Universal encoder, universal projection and language model.

    `forgetful` reproduces upstream's miscount, see `ForgetfulLlama`.
    """

    def __init__(self, config: OneLlmConfig, forgetful: bool = False) -> None:
        super().__init__()
        width, eps = config.clip.hidden_size, config.llm.rms_norm_eps
        own = (width, config.router_ffn, config.experts, config.llm.hidden_size)
        self.tower = ClipVision(config.clip, layer=-1)
        self.tower_norm = nn.LayerNorm(width, eps=config.clip.layer_norm_eps)
        self.sound = SoundPatches(width)
        self.senses = nn.ModuleDict({sense: SenseProjection(*own) for sense in (VIDEO, AUDIO)})
        self.experts = nn.ModuleList(
            nn.Sequential(
                *(ExpertBlock(width, config.expert_ffn, eps) for _ in range(config.blocks))
            )
            for _ in range(config.experts)
        )
        self.llm = (ForgetfulLlama if forgetful else LlamaForCausalLM)(config.llm)

    @classmethod
    def load(
        cls,
        model: Path,
        placement: Placement,
        forgetful: bool = False,
        clip_heads: int = CLIP_HEADS,
    ) -> "OneLlm":
        """Read the folder of OneLLM-7B as published: the consolidated weights and params.json."""
        tensors = rename(read_tensors(file_of(model, WEIGHTS_FILE)), KEYS)
        params = _params(model, tensors)
        config = OneLlmConfig.read(params, tensors, clip_heads)
        with weightless():
            built = cls(config, forgetful)
        tensors = split(from_meta(tensors, config.llm.num_attention_heads), *OPEN_CLIP_FUSED)
        load_strict(built, tensors, placement)
        return built

    def perceive(self, sense: str, signal: Tensor) -> Tensor:
        """A video's 15 x 3 x 224 x 224 -> 257 x width; a sound's 1 x 128 x 1024 -> 1213 x width."""
        signal = signal.to(self.tower_norm.weight)
        if sense == VIDEO:
            embedded = self.tower.embeddings(signal)
        else:
            embedded = self.sound(signal, self.tower.embeddings.class_embedding)
        perceived: Tensor = self.tower_norm(self.tower.transform(embedded))
        return perceived.mean(dim=0)

    def embed(self, inputs: OneLlmInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        perceived = self.perceive(inputs.sense, inputs.signal)
        clip = self.senses[inputs.sense](perceived, self.experts)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [clip])


def views(frames: npt.NDArray[np.uint8]) -> Tensor:
    """Frames (5 x height x width x 3) -> 15 x 3 x 224 x 224, float32: three crops of each."""
    return three_crops(frames, _SIDE).flatten(0, 1)


def mel_picture(samples: npt.NDArray[np.float32]) -> Tensor:
    """Mono sound at 16 kHz -> 1 x 128 x 1024, float32, 10.26 s of it; see `spectrogram`.

    (Upstream takes the mean off first; so does the filter bank, frame by frame, all of it.) Raises
    MissingModality where the sound is shorter than a frame.
    """
    return spectrogram(samples, MEL_FRAMES, _MEL_MEAN, _MEL_STD)[None]


_MINI = OneLlmConfig(
    clip=CLIPVisionConfig(
        **{**MINI_CLIP, "num_hidden_layers": 2, "num_attention_heads": CLIP_HEADS}
    ),
    experts=3,
    blocks=1,
    expert_ffn=64,
    router_ffn=64,
    llm=llama_config({**MINI_LLAMA2, "max_position_embeddings": CONTEXT}),
)


def read_sizes() -> PromptSizes:
    """The same for every checkpoint: upstream's code fixes both."""
    return PromptSizes(CONTEXT, POSITIONS, _SIDE)


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random OneLLM with the published files, token counts and context, and small widths.

    Returns the folder of its one part.
    """
    model = folder / "OneLLM-7B"
    model.mkdir(parents=True, exist_ok=True)
    llm = _MINI.llm
    write_sentencepiece(model / "tokenizer.model", llm.vocab_size)
    params = {
        "dim": llm.hidden_size,
        "n_heads": llm.num_attention_heads,
        "n_layers": llm.num_hidden_layers,
        "norm_eps": llm.rms_norm_eps,
    }
    write_json(model / PARAMS_FILE, params)
    with weightless():
        modules = OneLlm(_MINI)
    drawn = to_meta(random_tensors(modules, seed), llm.num_attention_heads)
    published = renames([(ours, theirs) for theirs, ours in _NAMES])
    tower = {name: drawn.pop(name) for name in list(drawn) if name.startswith("tower.")}
    drawn |= fuse(tower, *OPEN_CLIP_FUSED)
    tensors = publish(drawn, (*published, (r"^", "llma.")))
    # Of the tensors that loading ignores, one for each kind of name.
    for name in ("clip.ln_final.bias", "clip.visual.proj", "start_tag.fmri", "conv1.point.bias"):
        tensors[f"llma.{name}"] = torch.zeros(8, dtype=torch.half)
    torch.save(tensors, model / WEIGHTS_FILE)
    return {"model": model}
