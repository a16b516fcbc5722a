"""PandaGPT (Su et al., 2023, arXiv 2305.16355): all that is seen and heard in one vector.

    5 x 2 s of video, 2 frames x 3 crops each -> ImageBind vision -> mean of 15 -> 1024 | Linear |
    3 x 2 s of sound                          -> ImageBind audio  -> mean of 3  -> 1024 | Linear |
        -> sum: one vector of width 4096 in the prompt of Vicuna v0, adapted by LoRA

The Linear is the same for both, and its bias counts once for each. It was trained on pictures
alone; that sound works as well is ImageBind's doing. Source: yxuansu/PandaGPT at 9b77e041,
`code/model/openllama.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.imagebind import (
    AUDIO,
    AUDIO_HEADS,
    IMAGEBIND_FILE,
    IMAGEBIND_PUBLISHED,
    MINI_AUDIO,
    VISION,
    VISION_HEADS,
    ImageBindAudio,
    ImageBindConfig,
    ImageBindVision,
    imagebind_keys,
)
from ovmer.baselines.llama import MINI_LLAMA1, llama_config, read_llama, write_llama_miniature
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
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

CONNECTOR_FILE = "pytorch_model.pt"

_LORA_ALPHA = 32  # code/config/openllama_peft.yaml

CONNECTOR_KEYS = (
    (r"^llama_proj\.", "projector."),
    (r"^llama_model\.base_model\.model\.", "llm."),
    *LORA_KEYS,
)

_MINI_VISION = ImageBindConfig(heads=VISION_HEADS, width=32, layers=2, ffn=64, output=40)


@dataclass(frozen=True)
class PandaGptInputs:
    """One clip: token ids before and after the vector, and what it is made from.

    `views` is 15 x 3 x 2 x 224 x 224, `mel` 3 x 1 x 128 x 204; at least one of them is there.
    """

    texts: Sequence[Sequence[int]]
    views: Tensor | None
    mel: Tensor | None


class PandaGpt(nn.Module):
    """ImageBind's two towers, one projection and the language model."""

    def __init__(self, vision: ImageBindConfig, audio: ImageBindConfig, llm: LlamaConfig) -> None:
        super().__init__()
        self.vision = ImageBindVision(vision)
        self.audio = ImageBindAudio(audio)
        self.projector = nn.Linear(vision.output, llm.hidden_size)
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        connector: Path,
        llm: Path,
        imagebind: Path,
        placement: Placement,
        heads: tuple[int, int] = (VISION_HEADS, AUDIO_HEADS),
    ) -> "PandaGpt":
        """Read pytorch_model.pt, the folder of Vicuna v0 and imagebind_huge.pth as published.

        `heads` are those of the vision and of the audio tower, which no file tells.
        """
        towers = rename(
            read_tensors(file_of(imagebind, IMAGEBIND_FILE)), imagebind_keys(VISION, AUDIO)
        )
        trained = rename(read_tensors(file_of(connector, CONNECTOR_FILE)), CONNECTOR_KEYS)
        sizes, words = read_llama(llm)
        with weightless():
            model = cls(
                ImageBindConfig.from_tensors(towers, VISION, heads[0]),
                ImageBindConfig.from_tensors(towers, AUDIO, heads[1]),
                sizes,
            )
        merged = merge_lora(words, take_lora(trained), _LORA_ALPHA, _adapted(model.llm.config))
        tensors = join(towers, trained, merged)
        load_strict(model, tensors, placement)
        return model

    def see(self, views: Tensor) -> Tensor:
        """15 x 3 x 2 x 224 x 224 -> the mean vector, 1 x 1024, whose length is below 1."""
        vectors: Tensor = self.vision(views.to(self.projector.weight))
        return vectors.mean(dim=0, keepdim=True)

    def hear(self, mel: Tensor) -> Tensor:
        """3 x 1 x 128 x 204 -> 1 x 1024, likewise; ImageBind's own scale of sound is left out."""
        vectors: Tensor = self.audio(mel.to(self.projector.weight))
        return vectors.mean(dim=0, keepdim=True)

    def encode(self, inputs: PandaGptInputs) -> Tensor:
        """Picture and sound -> 1 x the language model's width."""
        found = []
        if inputs.views is not None:
            found.append(self.projector(self.see(inputs.views)))
        if inputs.mel is not None:
            found.append(self.projector(self.hear(inputs.mel)))
        return torch.stack(found).sum(dim=0)

    def embed(self, inputs: PandaGptInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        return splice(self.llm.get_input_embeddings(), inputs.texts, [self.encode(inputs)])


def _adapted(llm: LlamaConfig) -> list[str]:
    """The modules that have low-rank adapters."""
    return attention_modules("llm", llm.num_hidden_layers, "qkvo")


def read_sizes(llm: Path) -> PromptSizes:
    """Read the sizes from config.json of the language model; a clip is one vector."""
    return PromptSizes(llama_config(read_json(llm)).max_position_embeddings, positions=1)


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random PandaGPT with the published files, views and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    llm, connector, imagebind = folder / "7b_v0", folder / CONNECTOR_FILE, folder / IMAGEBIND_FILE
    with weightless():
        model = PandaGpt(_MINI_VISION, MINI_AUDIO, llama_config(MINI_LLAMA1))
    tensors = random_tensors(model, seed)
    words = {key[4:]: tensors.pop(key) for key in list(tensors) if key.startswith("llm.")}
    write_llama_miniature(llm, MINI_LLAMA1, words)
    trained = {key: tensors.pop(key) for key in list(tensors) if key.startswith("projector.")}
    trained |= random_lora(model, _adapted(model.llm.config), seed)
    published = (
        (r"^projector\.", "llama_proj."),
        (r"^llm\.(.*)\.(lora_[AB])$", r"llama_model.base_model.model.\1.\2.default.weight"),
    )
    torch.save(publish(trained, published), connector)
    # Of ImageBind's other towers, which loading leaves aside, one tensor.
    text = {"modality_heads.text.proj.1.weight": torch.zeros(4, 4)}
    torch.save(publish(tensors, IMAGEBIND_PUBLISHED) | text, imagebind)
    return {"llm": llm, "connector": connector, "imagebind": imagebind}
